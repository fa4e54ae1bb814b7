"""CO2 in cars driven and homes powered for a year: Table 1 of Fu et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass

CAR_YEAR_T = 4.63
"""CO2 of a passenger car in a year (EPA's calculator); it fits ResNet and GoogLeNet in Table 1."""

HOME_YEAR_T = 5.906
"""CO2 of a home's electricity in a year (EPA's calculator); it fits all rows of Table 1."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of Table 1.

    Args:
        name: The network.
        carbon_t: CO2 of its lifetime by the paper's eq. 3, in t.
        cars: Cars driven for a year, as printed.
        homes: Homes powered for a year, as printed.
        erratum: What is wrong with the printed row; "" where nothing is.
    """

    name: str
    carbon_t: float
    cars: float
    homes: float
    erratum: str = ""


TABLE_1 = (
    PublishedRow(name="ResNet", carbon_t=326.6, cars=70.6, homes=55.3),
    PublishedRow(
        name="VGG",
        carbon_t=181.7,
        cars=39.8,
        homes=30.8,
        erratum="Printed as 39.8 cars; at the 4.63 t per car that the other rows imply it is 39.2.",
    ),
    PublishedRow(name="GoogLeNet", carbon_t=65.1, cars=14.1, homes=11.0),
)
"""Fu et al. 2021, Table 1."""


def cars_driven(carbon_t: float) -> float:
    """Return how many cars driven for a year emit as much."""
    return _checked(carbon_t) / CAR_YEAR_T


def homes_powered(carbon_t: float) -> float:
    """Return how many homes' electricity for a year emits as much."""
    return _checked(carbon_t) / HOME_YEAR_T


def _checked(carbon_t: float) -> float:
    if not carbon_t >= 0:
        raise ValueError(f"`carbon_t` must be a number of tonnes of at least 0, got {carbon_t}.")
    return carbon_t
