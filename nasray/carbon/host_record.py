"""What an account knows of one host: the ledgers of its nodes, whichever meter read them, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nasray.carbon.host_shares import HostShares, Resources
from nasray.carbon.snapshot_part import SnapshotPart


class HostRecord:
    """Turns the snapshots of a host's meters into those of its nodes, for `EnergyLedger`.

    Args:
        where: Names of the `host`, of the `machine` that it is on, and of the `session` of the account: hosts of one
            machine in one session are containers beside each other, and leases of other sessions are other work.
        clock: Seconds that only go forward.
    """

    def __init__(self, where: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = dict(where), clock
        self._meter_id: str | None = None
        self._own: dict[str, SnapshotPart] = {}
        self._shares: dict[str, HostShares] = {}
        self._last: list[dict[str, Any]] = []
        self._read_s = 0.0
        self.since_s: float | None = None
        """What the meter is to be asked from; None for all it has."""

    def begin(self, first: Mapping[str, Any]) -> None:
        """Count what a meter that was there before shows from this snapshot on."""
        self._own[first["meter_id"]] = self._part(first)

    def take(
        self, snapshot: Mapping[str, Any], present: Mapping[str, Resources], ended: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Return the ledger of each node after a snapshot of the host's meter.

        Args:
            snapshot: Of `NodeMeter`, each lease with the `node` of its process.
            present: Nodes on this host and what they offer, see `HostShares`.
            ended: When nodes left the cluster, ISO 8601.
        """
        meter_id = snapshot["meter_id"]
        # A meter that was started again has other leases, and has to tell all of them once.
        is_same = self._meter_id in (None, meter_id)
        unread_s = self._clock() - snapshot["duration_s"] - self._read_s
        before = [] if is_same else self._without_reading(max(0.0, unread_s), ended)
        self._meter_id, self.since_s = meter_id, snapshot["duration_s"] if is_same else None
        own = self._own.setdefault(meter_id, self._part()).of(snapshot)
        self._last = self._shares.setdefault(meter_id, HostShares()).divide(own, present)
        self._read_s = self._clock()
        return [*before, *self.marked(ended)]

    def _part(self, first: Mapping[str, Any] | None = None) -> SnapshotPart:
        return SnapshotPart(first, account=self._where["session"])

    def lost(self, ended: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the ledgers after the meter was lost: the time that nobody has read since is missing."""
        return self._without_reading(self._clock() - self._read_s, ended)

    def marked(self, ended: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the latest ledgers, with the time at which a node left the cluster."""
        parts = [part | self._where for part in self._last]
        return [part | {"ended": ended[part["node"]]} if part["node"] in ended else part for part in parts]

    def _without_reading(self, seconds: float, ended: Mapping[str, str]) -> list[dict[str, Any]]:
        self._last, self._meter_id, self.since_s = [_unread(part, seconds) for part in self._last], None, None
        self._read_s = self._clock()
        return self.marked(ended)


def _unread(part: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a node's ledger with some time that no reading covers, and its open leases closed."""
    domains = {name: domain | {"missing_s": domain["missing_s"] + seconds} for name, domain in part["domains"].items()}
    leases = {
        key: entry | ({"energy": _ended(entry["energy"], seconds)} if entry["energy"]["closed_by"] is None else {})
        for key, entry in part["leases"].items()
    }
    return {**part, "domains": domains, "leases": leases}


def _ended(energy: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    names = energy["domains"].items()
    domains = {name: domain | {"missing_s": domain["missing_s"] + seconds} for name, domain in names}
    return {**energy, "domains": domains, "missing_s": energy["missing_s"] + seconds, "closed_by": "meter gone"}
