"""The energy account of an experiment on Ray: a meter on every host, a ledger for every node."""

from __future__ import annotations

import contextlib
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
from nasray.tune.energy.answers import Answers
from nasray.tune.energy.hosts import ask_host, machine_of, this_host
from nasray.tune.energy.leases import close_lease_here, open_lease_here
from nasray.tune.energy.meter_actor import forget_meter, start_meters

_TIMEOUT_S, _HOST_S, _LOOK_S = 60.0, 20.0, 5.0


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
        self.session = uuid.uuid4().hex[:12]
        """Tells its leases from those of other accounts that the same meters serve."""
        self._host_of: dict[str, str] = {}  # by node
        self._present: dict[str, Mapping[str, float]] = {}  # what each node offers
        self._ended: dict[str, str] = {}  # when nodes left the cluster
        self._meters: dict[str, Any] = {}  # by host
        self._records: dict[str, HostRecord] = {}  # by host
        self._waiting: dict[Any, str] = {}
        self._owes_lease = False
        self._forget_questions()

    def _forget_questions(self) -> None:
        self._hosts, self._firsts = Answers(_HOST_S), Answers(_TIMEOUT_S)  # by node, by host
        self._known: dict[str, Any] = {}  # meters that were there before, whose first snapshot is to come

    def watch_new_nodes(self, *, waits: bool = True) -> None:
        """Start meters on hosts that joined or lost theirs, looking for them every few seconds.

        Args:
            waits: Whether to wait for what nodes and meters answer, up to 20 and 60 s, for the silent ones once. If
                not, a later call takes the answers in.
        """
        is_time = time.monotonic() >= self._next_look_s
        if is_time:
            self._next_look_s = time.monotonic() + _LOOK_S
            self._look()
            self._ask_new_nodes()
        if self._learn_hosts(waits=waits) or is_time:
            self._start_meters()
        self._begin_known(waits=waits)
        if waits:
            self._charge_this_process()

    def _ask_new_nodes(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        if here in self._present:
            self._host_of[here] = this_host()
        for node in self._present:
            if node not in self._host_of and node not in self._hosts:
                self._hosts.ask(node, ask_host(node))

    def _learn_hosts(self, *, waits: bool) -> bool:
        """Take in which hosts nodes are on, and return whether there are new ones."""
        num_known = len(self._host_of)
        for node, answer in self._hosts.take(waits=waits):
            with contextlib.suppress(RayError):  # a node that is lost; one that is still there is asked again
                self._host_of[node] = ray.get(answer)
        return len(self._host_of) > num_known

    def _start_meters(self) -> None:
        for host, (meter, is_new) in start_meters(self._unmetered(), is_cross_checked=self._is_cross_checked).items():
            where = {"host": host, "machine": machine_of(host), "session": self.session}
            self._records.setdefault(host, HostRecord(where))
            if is_new:
                self._take_meter(host, meter)
            else:  # it has counted what is not this account's
                self._known[host] = meter
                self._firsts.ask(host, meter.snapshot.remote(None))

    def _begin_known(self, *, waits: bool) -> None:
        """Count from now on what meters show that were there before."""
        for host, answer in self._firsts.take(waits=waits):
            meter = self._known.pop(host)
            try:
                self._records[host].begin(ray.get(answer))
            except RayError:
                forget_meter(host)
                continue
            self._take_meter(host, meter)

    def _take_meter(self, host: str, meter: Any) -> None:
        self._meters[host] = meter
        self._owes_lease = self._owes_lease or host == this_host()

    def _charge_this_process(self) -> None:
        """Charge this process as overhead, if its host's meter is new."""
        if self._owes_lease:
            self._owes_lease = False
            open_lease_here(OVERHEAD, "search overhead", is_new=True, account=self.session)

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
        metered = self._meters.keys() | self._known.keys()
        return {self._host_of[node]: node for node in nodes if self._host_of[node] not in metered}

    def _open(self) -> None:
        self._next_look_s = 0.0
        self._meters.clear()
        self._forget_questions()
        self.watch_new_nodes()

    def _close(self) -> None:
        self._owes_lease = False
        close_lease_here()

    def _snapshots(self, *, is_final: bool) -> Iterable[Mapping[str, Any]]:
        if is_final:
            self._look()
            self._begin_known(waits=True)
        else:
            self.watch_new_nodes(waits=False)
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
            if self._owes_lease and host == this_host():  # it answers, so that this takes no time
                self._charge_this_process()
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
