"""The energy account of an experiment on Ray: a meter on every host, a ledger for every node."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from nasray.carbon.account import EnergyAccount
from nasray.carbon.budget import Budget, Spending
from nasray.carbon.host_record import HostRecord
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import OVERHEAD
from nasray.tune.energy.hosts import hosts_of, machine_of, this_host
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
        self._session = uuid.uuid4().hex[:12]
        self._host_of: dict[str, str] = {}  # by node
        self._present: dict[str, Mapping[str, float]] = {}  # what each node offers
        self._ended: dict[str, str] = {}  # when nodes left the cluster
        self._meters: dict[str, Any] = {}  # by host
        self._records: dict[str, HostRecord] = {}  # by host
        self._waiting: dict[Any, str] = {}

    def watch_new_nodes(self) -> None:
        """Start meters on hosts that joined or lost theirs, looking for them every few seconds."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_S
        self._look()
        self._host_of |= hosts_of([node for node in self._present if node not in self._host_of])
        for host, (meter, is_new) in start_meters(self._unmetered(), is_cross_checked=self._is_cross_checked).items():
            where = {"host": host, "machine": machine_of(host), "session": self._session}
            record = self._records.setdefault(host, HostRecord(where))
            try:  # a meter that was there before has counted what is not this account's
                if not is_new:
                    record.begin(ray.get(meter.snapshot.remote(None), timeout=_TIMEOUT_S))
            except (RayError, TimeoutError):
                forget_meter(host)
                continue
            self._meters[host] = meter
            if host == this_host():
                open_lease_here(OVERHEAD, "search overhead", is_new=True)

    def _look(self) -> None:
        """See which nodes are there, and note which have left."""
        self._present = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for node in self._host_of.keys() - self._present.keys():
            self._ended.setdefault(node, now)

    def _unmetered(self) -> dict[str, str]:
        """Return hosts without a meter, each with the node to start it on: this process's own, if it is there."""
        here = ray.get_runtime_context().get_node_id()
        nodes = sorted(self._host_of.keys() & self._present.keys(), key=lambda node: node == here)
        return {self._host_of[node]: node for node in nodes if self._host_of[node] not in self._meters}

    def _open(self) -> None:
        self._next_look_s = 0.0
        self._meters.clear()
        self.watch_new_nodes()

    def _close(self) -> None:
        close_lease_here()

    def _snapshots(self, *, is_final: bool) -> Iterable[Mapping[str, Any]]:
        if is_final:
            self._look()
        else:
            self.watch_new_nodes()
        # A meter that has not answered is not asked again, and holds up no other.
        asked = set() if is_final else set(self._waiting.values())
        self._waiting |= {
            meter.snapshot.remote(self._records[host].since_s): host
            for host, meter in self._meters.items()
            if host not in asked
        }
        timeout_s, asked_now = _TIMEOUT_S if is_final else 0.0, list(self._waiting)
        # Where no meter is left there is nothing to wait for, which Ray refuses.
        answers = ray.wait(asked_now, num_returns=len(asked_now), timeout=timeout_s)[0] if asked_now else []
        for answer in answers:
            host = self._waiting.pop(answer)
            record = self._records[host]
            try:
                snapshot: dict[str, Any] = ray.get(answer)
            except RayError:  # the host is gone or its meter died; what it counted last stays
                if self._meters.pop(host, None) is not None:
                    forget_meter(host)
                    yield from record.lost(self._ended)
                continue
            present = {node: offer for node, offer in self._present.items() if self._host_of.get(node) == host}
            yield from record.take(snapshot, present, self._ended)
        if self._ended:
            for record in self._records.values():
                yield from record.marked(self._ended)


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
