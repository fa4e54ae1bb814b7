"""The part of a meter's snapshots that belongs to one account, where the meter ran before or serves others too."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from nasray.carbon.lease import OVERHEAD

_PARTS = ("node_j", "trials_j", "other_j", "idle_j")


class SnapshotPart:
    """Takes from a meter's snapshots what came before, and what strangers' leases are charged since then.

    A lease is a stranger's if it is in the first snapshot, or of another `account`; one that names no account is of
    that of its owner. If nobody knows whose it is, it is this account's unless another one has open leases at the time
    when it is first seen. What strangers are charged is other work.

    Args:
        first: Snapshot from which the account counts; None for a meter that it started itself.
        account: What leases of this account say that they belong to; None if the meter serves no other one.
    """

    def __init__(self, first: Mapping[str, Any] | None = None, *, account: str | None = None) -> None:
        self._name, self._account = uuid.uuid4().hex[:8], account
        self._first: Mapping[str, Any] = first or {"domains": {}, "leases": {}, "duration_s": 0.0}
        self._strangers: dict[str, Mapping[str, Any]] = dict(self._first["leases"])
        self._own: set[str] = set()
        self._account_of: dict[str, str] = {}  # by owner
        self._learn_owners(self._first["leases"])

    def of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """Return the account's part of a later snapshot of the same meter, under a `meter_id` of its own."""
        leases = snapshot["leases"]
        self._tell_apart(leases)
        self._strangers |= {key: lease for key, lease in leases.items() if key in self._strangers}
        return {
            **snapshot,
            "meter_id": f"{snapshot['meter_id']}-{self._name}",
            "duration_s": snapshot["duration_s"] - self._first["duration_s"],
            "domains": {name: self._domain(name, domain) for name, domain in snapshot["domains"].items()},
            "leases": {key: lease for key, lease in leases.items() if key not in self._strangers},
        }

    def _tell_apart(self, leases: Mapping[str, Mapping[str, Any]]) -> None:
        """Find out whose the new leases are; that stays, for energies never to move from one account to another."""
        self._learn_owners(leases)
        active = [self._whose(lease) for lease in leases.values() if lease["energy"]["closed_by"] is None]
        is_alone = all(account in (None, self._account) for account in active)
        for key, lease in leases.items():
            if key in self._own or key in self._strangers:
                continue
            account = self._whose(lease)
            if self._account in (None, account) or (account is None and is_alone):
                self._own.add(key)
            else:
                self._strangers[key] = lease

    def _learn_owners(self, leases: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep which accounts owners belong to; every account has overhead."""
        for lease in leases.values():
            if lease.get("account") and lease["energy"]["owner"] != OVERHEAD:
                self._account_of[lease["energy"]["owner"]] = lease["account"]

    def _whose(self, lease: Mapping[str, Any]) -> str | None:
        return lease.get("account") or self._account_of.get(lease["energy"]["owner"])

    def _domain(self, name: str, domain: Mapping[str, Any]) -> dict[str, Any]:
        first = self._first["domains"].get(name) or {"node_j": None}
        strangers_j = math.fsum(self._grown_j(key, name) for key in self._strangers)
        if domain["node_j"] is None or (first["node_j"] is None and not strangers_j):
            return dict(domain)
        if first["node_j"] is None:
            first = dict.fromkeys([*_PARTS, "missing_s"], 0.0)
        since = {part: max(0.0, domain[part] - first[part]) for part in _PARTS}
        since["trials_j"] = max(0.0, since["trials_j"] - strangers_j)
        since["other_j"] = max(0.0, since["node_j"] - since["trials_j"] - since["idle_j"])
        return {**domain, **since, "missing_s": max(0.0, domain["missing_s"] - first["missing_s"])}

    def _grown_j(self, lease_id: str, name: str) -> float:
        """Return what a stranger's lease was charged in a domain since the first snapshot."""
        now, first = (source.get(lease_id) for source in (self._strangers, self._first["leases"]))
        return _charged_j(now, name) - _charged_j(first, name)


def _charged_j(lease: Mapping[str, Any] | None, domain: str) -> float:
    domains = {} if lease is None else lease["energy"]["domains"]
    return float(domains.get(domain, {}).get("energy_j") or 0.0)
