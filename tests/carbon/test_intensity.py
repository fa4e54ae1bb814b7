"""Carbon intensity against codecarbon's own answers."""

import pytest

from nasray.carbon.intensity import carbon_intensity, check_pue


@pytest.mark.parametrize(
    ("place", "code", "region"),
    [
        ("FRA", "FRA", None),
        ("de", "DEU", None),
        ("South Korea", "KOR", None),
        ("USA/California", "USA", "california"),
        ("US-NY", "USA", "new york"),
        ("Canada, Quebec", "CAN", "quebec"),
        ("SWE/SE3", "SWE", "SE3"),
        ("CHN/Beijing", "CHN", "beijing"),
    ],
)
def test_places_are_those_of_codecarbon(place, code, region):
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    geo = GeoMetadata(country_iso_code=code, region=region)
    kg = Emissions(DataSource()).get_private_infra_emissions(Energy.from_energy(kWh=1.0), geo)
    found = carbon_intensity(place)
    assert found.g_per_kwh == pytest.approx(1000 * kg)
    assert found.g_per_kwh != 475
    assert "codecarbon" in found.source


def test_clouds_numbers_and_the_world():
    assert carbon_intensity("gcp/europe-west1").g_per_kwh == 122
    assert (carbon_intensity(52).g_per_kwh, carbon_intensity("52").source) == (52.0, "given")
    assert carbon_intensity("world").g_per_kwh == 475


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("Frence", "France"),
        ("USA/Californa", "USA/california"),
        ("gcp/europ-west1", "gcp/europe-west1"),
        ("Atlantis/x", "must be a country"),
        ("FRA/Paris", "a country alone for FRA"),
        ("", "Known are"),
        (-1, "0 or more"),
        (float("nan"), "finite"),
    ],
)
def test_unknown_places_are_refused_with_similar_ones(place, hint):
    with pytest.raises(ValueError, match=hint):
        carbon_intensity(place)


@pytest.mark.parametrize("pue", [0.99, float("nan"), float("inf")])
def test_pue_below_one_is_refused(pue):
    with pytest.raises(ValueError, match="`pue` must be"):
        check_pue(pue)
