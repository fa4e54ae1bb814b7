"""The energy account of an experiment on Ray: a meter on every node."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from nasray.carbon.account import EnergyAccount
from nasray.carbon.budget import Budget, Spending
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import OVERHEAD
from nasray.carbon.snapshot_part import SnapshotPart
from nasray.tune.energy.leases import close_lease_here, open_lease_here
from nasray.tune.energy.meter_actor import forget_meter, start_meters

_TIMEOUT_S, _LOOK_S = 60.0, 5.0


class ClusterAccount(EnergyAccount):
    """Keeps account of an experiment on the Ray that is up; the loss of a node loses about its last second.

    Args:
        intensity: Carbon per energy at the place.
        pue: Power usage effectiveness of the place, at least 1.
        budget: What the experiment may use.
        folder: Where to keep `energy.json` and `emissions.csv`; an account that is there goes on. None keeps none.
        is_cross_checked: Whether codecarbon measures each node as well, for comparison.

    Raises:
        ValueError: If `pue` is less than 1, or the account in the folder is damaged.
    """

    def __init__(
        self,
        intensity: CarbonIntensity,
        *,
        pue: float = 1.0,
        budget: Budget | None = None,
        folder: Path | None = None,
        is_cross_checked: bool = True,
    ) -> None:
        super().__init__(intensity, pue=pue, budget=budget, folder=folder)
        self._is_cross_checked = is_cross_checked
        self._next_look_s = 0.0
        self._meters: dict[str, Any] = {}
        self._waiting: dict[Any, str] = {}
        self._meter_ids: dict[str, str] = {}
        self._since_s: dict[str, float] = {}
        self._parts: dict[tuple[str, str], SnapshotPart] = {}

    def watch_new_nodes(self) -> None:
        """Start meters on nodes that joined, looking for them every few seconds."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_S
        new = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._meters]
        for node, (meter, is_new) in start_meters(new, is_cross_checked=self._is_cross_checked).items():
            try:  # a meter that was there before has counted what is not this account's
                first = None if is_new else ray.get(meter.snapshot.remote(None), timeout=_TIMEOUT_S)
            except (RayError, TimeoutError):
                forget_meter(node)
                continue
            self._meters[node] = meter
            if first is not None:
                self._parts[node, first["meter_id"]] = SnapshotPart(first)

    def _open(self) -> None:
        self._next_look_s = 0.0
        self._meters.clear()
        self.watch_new_nodes()
        open_lease_here(OVERHEAD, "search overhead", is_new=True)

    def _close(self) -> None:
        close_lease_here()

    def _snapshots(self, *, is_final: bool) -> Iterable[Mapping[str, Any]]:
        self.watch_new_nodes()
        # A meter that has not answered is not asked again, and holds up no other.
        asked = set() if is_final else set(self._waiting.values())
        self._waiting |= {
            meter.snapshot.remote(self._since_s.get(node)): node
            for node, meter in self._meters.items()
            if node not in asked
        }
        answers, _ = ray.wait(
            list(self._waiting), num_returns=max(1, len(self._waiting)), timeout=_TIMEOUT_S if is_final else 0.0
        )
        for answer in answers:
            node = self._waiting.pop(answer)
            try:
                snapshot: dict[str, Any] = ray.get(answer)
            except RayError:  # the node is gone or its meter died; what it counted last stays
                self._meters.pop(node, None)
                forget_meter(node)
                continue
            # A meter that Ray started again has other leases, and has to tell all of them once.
            meter_id = snapshot["meter_id"]
            is_same = self._meter_ids.setdefault(node, meter_id) == meter_id
            self._since_s[node], self._meter_ids[node] = snapshot["duration_s"] if is_same else 0.0, meter_id
            yield self._parts.setdefault((node, meter_id), SnapshotPart()).of(snapshot)


class BudgetStopper(tune.Stopper):
    """Ends an experiment when its budget is used up.

    Args:
        account: Its account; None never stops.
        reserve: What is to be left of the budget.
        waits_for_results: Whether each trial goes on to its next result, so that none ends without one; else all are
            ended at once.
    """

    def __init__(
        self, account: EnergyAccount | None, reserve: Spending | None = None, *, waits_for_results: bool = False
    ) -> None:
        self._account, self._reserve, self._waits = account, reserve, waits_for_results

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the budget is used up, where trials are waited for."""
        return self._waits and self._is_spent()

    def stop_all(self) -> bool:
        """Whether the budget is used up, where trials are not waited for."""
        return not self._waits and self._is_spent()

    def _is_spent(self) -> bool:
        if self._account is None:
            return False
        self._account.refresh()
        return self._account.is_spent(self._reserve)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_account": None}
