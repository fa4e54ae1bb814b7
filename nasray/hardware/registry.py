"""The hardware costs by name."""

from __future__ import annotations

from typing import Protocol

from nasray.hardware.analytic import Macs, Memory, Parameters
from nasray.hardware.cost import Cost
from nasray.hardware.latency import MeasuredLatency
from nasray.hardware.lookup_table import LatencyTable, LookupLatency
from nasray.spaces.mobile import MobileSpace


class CostFactory(Protocol):
    """Makes a cost for a space; takes every setting and uses those that concern it."""

    def __call__(self, space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
        """Return the cost."""


def _macs(space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
    return Macs(space)


def _parameters(space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
    return Parameters(space)


def _memory(space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
    return Memory(space, batch_size=batch_size)


def _latency(space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
    if table is None:
        raise ValueError(
            "`table` must be a LatencyTable for the cost 'latency', got None. Make one with build_latency_table, or "
            "use 'measured-latency'."
        )
    if table.batch_size != batch_size:
        raise ValueError(
            f"`batch_size` must be the table's, {table.batch_size}, got {batch_size}. Build a table for that size."
        )
    return LookupLatency(space, table)


def _measured_latency(space: MobileSpace, *, device: str, table: LatencyTable | None, batch_size: int) -> Cost:
    return MeasuredLatency(space, device=device, batch_size=batch_size)


COSTS: dict[str, CostFactory] = {
    "macs": _macs,
    "parameters": _parameters,
    "memory": _memory,
    "latency": _latency,
    "measured-latency": _measured_latency,
}


def make_cost(
    name: str, space: MobileSpace, *, device: str = "cpu", table: LatencyTable | None = None, batch_size: int = 1
) -> Cost:
    """Return a cost by its name.

    Args:
        name: One of `COSTS`.
        space: The search space.
        device: Where `measured-latency` times networks; `latency` is for the table's device.
        table: Lookup table of `latency`.
        batch_size: Images at a time, for memory and latencies.

    Raises:
        ValueError: If no cost has this name, or `latency` lacks a fitting table.
    """
    if name not in COSTS:
        raise ValueError(f"`cost` must be one of {', '.join(COSTS)}, got {name!r}.")
    return COSTS[name](space, device=device, table=table, batch_size=batch_size)
