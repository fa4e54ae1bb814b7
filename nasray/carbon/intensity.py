"""Carbon per energy of a place, from the tables that codecarbon ships; and the check of a PUE."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nasray.carbon.codecarbon_quiet import codecarbon_name, quiet_codecarbon

WORLD = "world"
"""The place that stands for the world's average. No unknown place becomes it."""

_CANADA_NOTE = "burning only, no biomass"  # codecarbon's factors for provinces: coal, petroleum and gas


@dataclass(frozen=True, kw_only=True)
class CarbonIntensity:
    """CO2 equivalent of electricity where it was used.

    Args:
        g_per_kwh: Grams of CO2 equivalent per kWh.
        source: Place, table and year.

    Raises:
        ValueError: If it is negative or not finite.
    """

    g_per_kwh: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.g_per_kwh) and self.g_per_kwh >= 0):
            raise ValueError(f"`g_per_kwh` must be a finite number of 0 or more, got {self.g_per_kwh}.")


def check_pue(pue: float) -> float:
    """Return a power usage effectiveness: energy of the data centre per energy of its computers.

    Raises:
        ValueError: If it is below 1 or not finite.
    """
    if not (math.isfinite(pue) and pue >= 1):
        raise ValueError(f"`pue` must be a finite number of at least 1, got {pue}. 1 means no overhead.")
    return pue


def carbon_intensity(place: str | float) -> CarbonIntensity:
    """Return the carbon intensity of a place.

    Args:
        place: g/kWh as a number; a country by ISO code or name ("FRA", "fr", "France"); a region as "country/region"
            (US states, Canadian and Chinese provinces, Nordic bidding zones: "USA/California", "US-CA", "SWE/SE3");
            a cloud region as "provider/region" ("gcp/europe-west1"); or "world".

    Raises:
        ValueError: If the place is unknown; the message names similar ones.
    """
    number = _number(place)
    if number is not None:
        return CarbonIntensity(g_per_kwh=number, source="given")
    with quiet_codecarbon():
        return _of_place(str(place).strip())


def _number(place: str | float) -> float | None:
    try:
        return float(place)
    except ValueError:
        return None


def _of_place(place: str) -> CarbonIntensity:
    if place.lower() == WORLD:
        return _from_table(_tables().get_carbon_intensity_per_source_data()["world_average"], "world average")
    country = _country(place)
    if country is not None:
        return _of_country(country, place)
    parts = re.fullmatch(r"(.+?)\s*[/:,]\s*(.+)", place) or re.fullmatch(r"([A-Za-z]{2,3})-(.+)", place)
    if parts is None:
        _refuse(place, _known_places())
    outer, inner = parts.groups()
    providers = _providers()
    if outer.lower() in providers:
        return _of_cloud(outer.lower(), inner.lower(), providers[outer.lower()])
    country = _country(outer)
    if country is None:
        _refuse(place, _known_places())
    return _of_region(country, inner, place)


def _of_country(code: str, place: str) -> CarbonIntensity:
    table = _tables().get_global_energy_mix_data()
    g_per_kwh = table.get(code, {}).get("carbon_intensity")
    if g_per_kwh is None:
        _refuse(place, _known_places())
    return _from_table(g_per_kwh, f"{table[code]['country_name']} {table[code].get('year', '')}".strip())


def _of_cloud(provider: str, region: str, regions: Mapping[str, float]) -> CarbonIntensity:
    if region not in regions:
        _refuse(f"{provider}/{region}", [f"{provider}/{name}" for name in regions])
    return _from_table(regions[region], f"{provider} {region}")


def _of_region(country: str, region: str, place: str) -> CarbonIntensity:
    names = _regions(country)
    if not names:
        raise ValueError(f"`place` must be a country alone for {country}, which has no regions here, got {place!r}.")
    name = names.get(region.lower())
    if name is None:
        _refuse(place, [f"{country}/{known}" for known in names])
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata

    geo = GeoMetadata(country_iso_code=country, region=name)
    kg_per_kwh = Emissions(_tables()).get_region_emissions(Energy.from_energy(kWh=1.0), geo)
    note = f" ({_CANADA_NOTE})" if country == "CAN" else ""
    return _from_table(kg_per_kwh * 1000, f"{country} {name}{note}")


def _country(text: str) -> str | None:
    """Return the ISO 3166 alpha-3 code of a country, or `None`."""
    import pycountry

    try:
        return str(pycountry.countries.lookup(text).alpha_3)
    except LookupError:
        table = _tables().get_global_energy_mix_data()
        return next((code for code, entry in table.items() if entry["country_name"].lower() == text.lower()), None)


def _regions(country: str) -> dict[str, str]:
    """Return what the regions of a country may be called, and what codecarbon calls them."""
    tables = _tables()
    if country == "USA":
        states = {name: entry for name, entry in tables.get_country_emissions_data("usa").items() if name[0] != "_"}
        return {name: name for name in states} | {entry["regionCode"].lower(): name for name, entry in states.items()}
    if country == "CAN":
        return {name: name for name in tables.get_country_energy_mix_data("can")}
    if country == "CHN":
        provinces = tables.get_china_provincial_emissions_data()["data"].values()
        return {name: province["names"][0] for province in provinces for name in province["names"]}
    prefix = {"SWE": "SE", "NOR": "NO", "FIN": "FI"}.get(country)
    zones = tables.get_nordic_country_energy_mix_data()["data"]
    return {zone.lower(): zone for zone in zones if prefix is not None and zone.startswith(prefix)}


def _providers() -> dict[str, dict[str, float]]:
    """Return the intensity of every cloud region, by provider."""
    providers: dict[str, dict[str, float]] = {}
    for row in _tables().get_cloud_emissions_data().to_dict("records"):
        providers.setdefault(str(row["provider"]).lower(), {})[str(row["region"]).lower()] = float(row["impact"])
    return providers


def _known_places() -> list[str]:
    """Return countries by code and name, cloud regions, and the world."""
    countries = _tables().get_global_energy_mix_data()
    names = [*countries, *(entry["country_name"] for entry in countries.values())]
    return [*names, *(f"{cloud}/{region}" for cloud, regions in _providers().items() for region in regions), WORLD]


def _refuse(place: str, known: Iterable[str]) -> NoReturn:
    by_lower = {name.lower(): name for name in known}
    close = [by_lower[name] for name in difflib.get_close_matches(place.lower(), by_lower, n=5, cutoff=0.5)]
    hint = f"Did you mean {', '.join(close)}?" if close else f"Known are {', '.join(list(by_lower.values())[:8])}, ..."
    raise ValueError(
        f"`place` must be a country, country/region, cloud/region, {WORLD!r} or g/kWh, got {place!r}. {hint}"
    )


def _from_table(g_per_kwh: float, place: str) -> CarbonIntensity:
    return CarbonIntensity(g_per_kwh=float(g_per_kwh), source=f"{place}, {codecarbon_name()}")


def _tables() -> Any:
    from codecarbon import input as tables

    module: Any = tables
    return module.DataSource()
