"""Power of nodes and trials, from what their meters have counted between two moments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LEAST_S = 0.5
"""Shortest window that power is taken over: counters move in steps."""
_STALE_S = 10.0
"""How long a figure counts as the present one."""

_Counted = tuple[float, float]
"""Seconds and joules."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    read_s: float
    node_w: float | None
    trials_w: Mapping[str, float]


class PowerReadings:
    """Turns snapshots of `NodeMeter` into watts.

    Args:
        clock: Seconds, only forward.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: dict[str, dict[str, _Counted]] = {}  # by meter and node, then by lease; "" is the node
        self._readings: dict[str, _Reading] = {}  # by node

    def take(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot; one that comes less than half a second of its meter's time after the last is passed over."""
        key, node = f"{snapshot['meter_id']}/{snapshot['node']}", snapshot["node"]
        now, before = _counted(snapshot), self._counted.get(key)
        if before is None:
            self._counted[key] = now
        elif now[""][0] - before[""][0] >= _LEAST_S:
            owners = {lease_id: entry["energy"]["owner"] for lease_id, entry in snapshot["leases"].items()}
            trials_w: dict[str, float] = {}
            for lease_id in now.keys() & owners.keys():
                power_w = _power_w(before.get(lease_id, (0.0, 0.0)), now[lease_id])
                if power_w is not None:
                    trials_w[owners[lease_id]] = trials_w.get(owners[lease_id], 0.0) + power_w
            node_w = _power_w(before[""], now[""])
            self._readings = {**self._readings, node: _Reading(read_s=self._clock(), node_w=node_w, trials_w=trials_w)}
            self._counted[key] = now

    def nodes_w(self) -> dict[str, float]:
        """Return the power of each node, in W, of the parts that a sensor or a model sees; no stale figures."""
        return {node: reading.node_w for node, reading in self._fresh() if reading.node_w is not None}

    def trials_w(self) -> dict[tuple[str, str], float]:
        """Return the power of each running trial by node and trial, in W; overhead is a trial here."""
        fresh = self._fresh()
        return {(node, trial): power_w for node, reading in fresh for trial, power_w in reading.trials_w.items()}

    def _fresh(self) -> list[tuple[str, _Reading]]:
        now_s = self._clock()
        return [(node, reading) for node, reading in self._readings.items() if now_s - reading.read_s <= _STALE_S]


def _counted(snapshot: Mapping[str, Any]) -> dict[str, _Counted]:
    """Return what the node and each of its open leases have used; leases of unknown energy are left out."""
    known = [domain["node_j"] for domain in snapshot["domains"].values() if domain["node_j"] is not None]
    counted = {"": (snapshot["duration_s"], sum(known))} if known else {"": (snapshot["duration_s"], float("nan"))}
    for lease_id, entry in snapshot["leases"].items():
        energy = entry["energy"]
        if energy["closed_by"] is None and energy["energy_j"] is not None:
            counted[lease_id] = (energy["duration_s"], energy["energy_j"])
    return counted


def _power_w(before: _Counted, now: _Counted) -> float | None:
    """Return the mean power between two moments; None if there was no time, or the counter went back or is unknown."""
    seconds, joules = now[0] - before[0], now[1] - before[1]
    return joules / seconds if seconds > 0 and joules >= 0 else None
