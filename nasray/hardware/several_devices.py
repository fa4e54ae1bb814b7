"""One search for several devices: their costs as one figure.

Milliseconds of a server and of a phone don't compare, so every device's cost is divided by what a reference network
costs there: 0.5 is half of the reference on that device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from nasray.architecture import Architecture
from nasray.hardware.cost import Cost, CostValue, Quality
from nasray.spaces.tabular import TabularSpace

_UNIT = "of the reference"
_LEAST_CERTAIN_FIRST: tuple[Quality, ...] = ("predicted", "measured", "exact")


class WorstCase(Cost):
    """The cost on the device where a network does worst, relative to the reference.

    Args:
        costs: A cost per device, by the device's name.
        references: What the reference network costs on each device; see `reference_costs`.
        name: What the figure is called.

    Raises:
        ValueError: If there is no device, or a reference is missing or not positive.
    """

    unit = _UNIT

    def __init__(
        self, costs: Mapping[str, Cost], references: Mapping[str, float], *, name: str = "worst-device"
    ) -> None:
        self.costs, self.references, self.name = dict(costs), _checked(costs, references), name

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the largest share; the source names its device, the spread is that device's."""
        values = {device: cost(architecture) for device, cost in self.costs.items()}
        shares = {device: value.value / self.references[device] for device, value in values.items()}
        worst = max(shares, key=lambda device: shares[device])
        spread = values[worst].spread
        return CostValue(
            value=shares[worst],
            unit=self.unit,
            source=f"worst of {', '.join(values)}: {worst}, {values[worst].source}",
            quality=_least_certain([value.quality for value in values.values()]),
            spread=None if spread is None else spread / self.references[worst],
        )


class Weighted(Cost):
    """The weighted mean of what a network costs on several devices, relative to the reference.

    Args:
        costs: A cost per device, by the device's name.
        references: What the reference network costs on each device; see `reference_costs`.
        weights: Of each device, such as its share of users; they need not add up to 1. `None` is 1 each.
        name: What the figure is called.

    Raises:
        ValueError: If there is no device, or a reference or weight is missing or out of range.
    """

    unit = _UNIT

    def __init__(
        self,
        costs: Mapping[str, Cost],
        references: Mapping[str, float],
        *,
        weights: Mapping[str, float] | None = None,
        name: str = "weighted-devices",
    ) -> None:
        self.costs, self.references, self.name = dict(costs), _checked(costs, references), name
        given = dict.fromkeys(costs, 1.0) if weights is None else dict(weights)
        are_valid = all(0 <= weight < math.inf for weight in given.values()) and sum(given.values()) > 0
        if given.keys() != self.costs.keys() or not are_valid:
            raise ValueError(
                f"`weights` must give each of {', '.join(self.costs)} a finite weight of at least 0, one of them more, "
                f"got {given}."
            )
        total = sum(given.values())
        self.weights = {device: weight / total for device, weight in given.items()}

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the weighted mean; the spread adds the devices' spreads up, as if all erred to one side."""
        values = {device: cost(architecture) for device, cost in self.costs.items()}
        factors = {device: self.weights[device] / self.references[device] for device in values}
        spreads = [value.spread for value in values.values()]
        summed = [factors[device] * value.spread for device, value in values.items() if value.spread is not None]
        parts = ", ".join(f"{weight:.3g} {device}" for device, weight in self.weights.items())
        return CostValue(
            value=sum(factors[device] * value.value for device, value in values.items()),
            unit=self.unit,
            source=f"weighted mean of {parts}",
            quality=_least_certain([value.quality for value in values.values()]),
            spread=None if None in spreads else sum(summed),
        )


class TableCost(Cost):
    """A column of a table of architectures, such as a latency that others have measured.

    Args:
        space: The table.
        metric: The column.
        unit: Of its figures.

    Raises:
        ValueError: If there is no such column.
    """

    def __init__(self, space: TabularSpace, metric: str, *, unit: str) -> None:
        space.column(metric)
        self.space, self.name, self.unit = space, metric, unit

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the figure of an architecture of the table.

        Raises:
            ValueError: If the table does not list the architecture.
        """
        value = self.space.metrics(architecture)[self.name]
        return CostValue(value=value, unit=self.unit, source=f"{self.space.name}, {self.name}", quality="measured")


def reference_costs(costs: Mapping[str, Cost], reference: Architecture) -> dict[str, float]:
    """Return what a network, such as the initial one or one in use today, costs on each device.

    Raises:
        ValueError: If the network is of another space.
    """
    return {device: cost(reference).value for device, cost in costs.items()}


def device_metrics(costs: Mapping[str, Cost]) -> Callable[[Architecture], dict[str, float]]:
    """Return a function that gives the cost of an architecture on each device, by the device's name.

    For evaluations that keep every device's cost, so that one search gives a front for each: see
    `nasray.report.device_fronts`.
    """
    return _DeviceMetrics(dict(costs))


class _DeviceMetrics:
    """A class rather than a closure, so that it can go to Ray actors."""

    def __init__(self, costs: dict[str, Cost]) -> None:
        self.costs = costs

    def __call__(self, architecture: Architecture) -> dict[str, float]:
        return {device: cost(architecture).value for device, cost in self.costs.items()}


def _checked(costs: Mapping[str, Cost], references: Mapping[str, float]) -> dict[str, float]:
    if not costs:
        raise ValueError("`costs` must hold a device, got none. Name at least one.")
    wrong = [device for device in costs if not 0 < references.get(device, 0) < math.inf]
    if wrong:
        raise ValueError(
            f"`references` must give each device a positive cost, got {references.get(wrong[0])} for {wrong[0]!r}. "
            "Take reference_costs of a network."
        )
    return {device: float(references[device]) for device in costs}


def _least_certain(qualities: Sequence[Quality]) -> Quality:
    return next(quality for quality in _LEAST_CERTAIN_FIRST if quality in qualities)
