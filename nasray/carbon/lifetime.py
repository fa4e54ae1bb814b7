"""When a search has paid for itself: its cost against what its network saves, each time that it is used.

Costs are energies in J or emissions in g; all figures of one comparison are the same. Emissions are the right choice
where the search and the use run on different electricity.

Source: Fu et al. 2021, Sec. 2 (cost of the search, cost of the lifetime); Young et al. 2019 (MENNDL), Sec. IV (the
lifetime is mostly inference). Deviation: the papers draw totals; the break-even point is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BASELINE_MACS: Mapping[str, int] = {"ResNet-50": 4_089_180_000, "MobileNetV3-Large": 216_590_000}
"""Multiply-adds of one inference at 224 x 224: convolutions and linear layers."""

Use = Literal["inference", "training"]
Unit = Literal["J", "g"]
Outcome = Literal["after", "never", "at once"]

_PREFIXES: Mapping[Unit, tuple[tuple[float, str], ...]] = {
    "J": ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "g": ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg")),
}


@dataclass(frozen=True, kw_only=True)
class CostPerUse:
    """What one use of a network costs.

    Args:
        network: Its name.
        cost: In J or g, of one inference or one training.
        quality: `measured`, or `estimated` from multiply-adds.

    Raises:
        ValueError: If the cost is negative or not finite, or the quality is unknown.
    """

    network: str
    cost: float
    quality: Literal["measured", "estimated"]

    def __post_init__(self) -> None:
        _check("cost", self.cost)
        if self.quality not in ("measured", "estimated"):
            raise ValueError(f"`quality` must be measured or estimated, got {self.quality!r}.")

    @classmethod
    def from_macs(cls, network: str, macs: float, cost_per_mac: float) -> CostPerUse:
        """Estimate one inference; memory traffic and idle power are in it only as far as in `cost_per_mac`.

        Args:
            network: Its name.
            macs: Multiply-adds of one inference.
            cost_per_mac: J or g per multiply-add of the device, best measured on a network of the same kind.
        """
        _check("macs", macs)
        _check("cost_per_mac", cost_per_mac)
        return cls(network=network, cost=macs * cost_per_mac, quality="estimated")

    @classmethod
    def of_baseline(cls, network: str, cost_per_mac: float) -> CostPerUse:
        """Estimate one inference of a baseline in `BASELINE_MACS`.

        Raises:
            ValueError: If the network is none of them.
        """
        if network not in BASELINE_MACS:
            raise ValueError(f"`network` must be one of {', '.join(BASELINE_MACS)}, got {network!r}. Or use from_macs.")
        return cls.from_macs(network, BASELINE_MACS[network], cost_per_mac)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """When a search has paid for itself.

    Args:
        outcome: `after` so many uses, `at once` where the search cost nothing, `never` where a use saves nothing.
        uses: The number of uses of `after`; 0 of `at once`; None of `never`.
        use: What is counted.
        search_cost: What there was to pay back.
        found: One use of the network found.
        baseline: One use of the network that it replaces.
        unit: Of all costs.
    """

    outcome: Outcome
    uses: int | None
    use: Use
    search_cost: float
    found: CostPerUse
    baseline: CostPerUse
    unit: Unit

    def describe(self) -> str:
        """Say it in one sentence."""
        found, baseline, saved = self.found, self.baseline, self.baseline.cost - self.found.cost
        is_estimated = "estimated" in (found.quality, baseline.quality)
        of_use = f"{'an estimated ' if is_estimated else ''}{_amount(abs(saved), self.unit)} per {self.use}"
        if self.outcome == "never":
            instead = f"costs {of_use} more than" if saved < 0 else "costs as much as"
            return f"The search for {found.network} never pays for itself: it {instead} {baseline.network}."
        if self.outcome == "at once":
            return f"{found.network} pays for itself at once: its search cost nothing beyond {baseline.network}."
        plural = "" if self.uses == 1 else "s"
        return (
            f"The search for {found.network} ({_amount(self.search_cost, self.unit)}) has paid for itself after "
            f"{self.uses:,} {self.use}{plural}: it saves {of_use} against {baseline.network}."
        )


def break_even(
    search_cost: float, found: CostPerUse, baseline: CostPerUse, *, use: Use = "inference", unit: Unit = "J"
) -> BreakEven:
    """Return after how many uses a search has paid for itself against a network that needed none.

    Args:
        search_cost: What the search cost, in `unit`, all its trials and the final training included.
        found: One use of the network found.
        baseline: One use of the network that it replaces.
        use: What a use is: an inference, or a training by somebody else.
        unit: Of all costs.

    Raises:
        ValueError: If the cost of the search is negative or not finite.
    """
    _check("search_cost", search_cost)
    saved = baseline.cost - found.cost
    outcome: Outcome = "after"
    uses: int | None = None
    if saved < 0 or (saved == 0 and search_cost > 0):
        outcome = "never"
    elif search_cost == 0:
        outcome, uses = "at once", 0
    else:
        uses = math.ceil(search_cost / saved)
    return BreakEven(
        outcome=outcome, uses=uses, use=use, search_cost=search_cost, found=found, baseline=baseline, unit=unit
    )


def lifetime_cost(
    search_cost: float,
    *,
    per_inference: float = 0.0,
    num_inferences: float = 0.0,
    per_training: float = 0.0,
    num_trainings: float = 0.0,
) -> float:
    """Return what a network costs over its lifetime: its search, its inferences and its trainings by others.

    Args:
        search_cost: In J or g; 0 for a network that is there already.
        per_inference: Cost of one inference.
        num_inferences: Expected inferences.
        per_training: Cost of one training.
        num_trainings: Expected trainings by others.

    Raises:
        ValueError: If a figure is negative or not finite.
    """
    figures = {
        "search_cost": search_cost,
        "per_inference": per_inference,
        "num_inferences": num_inferences,
        "per_training": per_training,
        "num_trainings": num_trainings,
    }
    for name, value in figures.items():
        _check(name, value)
    return search_cost + per_inference * num_inferences + per_training * num_trainings


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be a finite number of at least 0, got {value}.")


def _amount(value: float, unit: Unit) -> str:
    """Write an amount with a prefix that keeps it readable, such as "54.9 MJ" or "1.2 mg"."""
    scales = _PREFIXES[unit]
    size, name = next(((size, name) for size, name in scales if value >= size), scales[-1])
    return f"{value / size:.3g} {name}"
