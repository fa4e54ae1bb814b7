"""How much a search may use: hours, energy, carbon."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

_J_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What has been used so far.

    Args:
        hours: Wall-clock hours.
        energy_j: Joules, without the power usage effectiveness of the place; None if unknown.
        carbon_g: Grams of CO2 equivalent; None if unknown.
    """

    hours: float
    energy_j: float | None
    carbon_g: float | None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on a search; what is None is not limited.

    Args:
        co2_kg: Kilograms of CO2 equivalent.
        kwh: Kilowatt-hours.
        hours: Wall-clock hours.

    Raises:
        ValueError: If a limit is not a positive number.
    """

    co2_kg: float | None = None
    kwh: float | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None and not 0 < limit < math.inf:
                option = "budget-" + name.replace("_", "-")
                raise ValueError(f"`{option}` must be a positive number, got {limit}. Leave it out for no limit.")

    def __bool__(self) -> bool:
        """Return whether anything is limited."""
        return any(limit is not None for limit in asdict(self).values())

    def used(self, spent: Spending) -> float:
        """Return the used share of the tightest limit, 0 without one; 1 and more is the end.

        Raises:
            ValueError: If energy or carbon is limited but unknown.
        """
        used = 0.0
        for name, share in self.shares(spent).items():
            if share is None:
                raise ValueError(
                    f"`budget-{name.replace('_', '-')}` needs the energy of every node, but a node has no meter that "
                    "can be read. Use --budget-hours."
                )
            used = max(used, share)
        return used

    def shares(self, spent: Spending) -> dict[str, float | None]:
        """Return the used share of each limit by its name; None where that is unknown."""
        shares: dict[str, float | None] = {}
        if self.hours is not None:
            shares["hours"] = spent.hours / self.hours
        if self.kwh is not None:
            shares["kwh"] = None if spent.energy_j is None else spent.energy_j / _J_PER_KWH / self.kwh
        if self.co2_kg is not None:
            shares["co2_kg"] = None if spent.carbon_g is None else spent.carbon_g / 1e3 / self.co2_kg
        return shares

    def describe(self) -> str:
        """Return the limits as text, such as "2 h, 0.5 kg CO2e"."""
        units = {"hours": "h", "kwh": "kWh", "co2_kg": "kg CO2e"}
        return ", ".join(f"{getattr(self, name):g} {unit}" for name, unit in units.items() if getattr(self, name))
