"""The part of a meter's snapshots that belongs to one account, where the meter ran before or serves others too."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

_PARTS = ("node_j", "trials_j", "other_j", "idle_j")


class SnapshotPart:
    """Takes from a meter's snapshots what came before, and what strangers' leases are charged since then.

    Args:
        first: Snapshot from which the account counts; None for a meter that it started itself. Leases in it are
            strangers: what they are charged later is other work.
    """

    def __init__(self, first: Mapping[str, Any] | None = None) -> None:
        self._name = uuid.uuid4().hex[:8]
        self._first: Mapping[str, Any] = first or {"domains": {}, "leases": {}, "duration_s": 0.0}
        self._strangers: dict[str, Mapping[str, Any]] = dict(self._first["leases"])

    def of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """Return the account's part of a later snapshot of the same meter, under a `meter_id` of its own."""
        leases = snapshot["leases"]
        self._strangers |= {key: lease for key, lease in leases.items() if key in self._strangers}
        return {
            **snapshot,
            "meter_id": f"{snapshot['meter_id']}-{self._name}",
            "duration_s": snapshot["duration_s"] - self._first["duration_s"],
            "domains": {name: self._domain(name, domain) for name, domain in snapshot["domains"].items()},
            "leases": {key: lease for key, lease in leases.items() if key not in self._strangers},
        }

    def _domain(self, name: str, domain: Mapping[str, Any]) -> dict[str, Any]:
        first = self._first["domains"].get(name)
        if domain["node_j"] is None or first is None or first["node_j"] is None:
            return dict(domain)
        since = {part: max(0.0, domain[part] - first[part]) for part in _PARTS}
        strangers_j = math.fsum(self._grown_j(key, name) for key in self._strangers)
        since["trials_j"] = max(0.0, since["trials_j"] - strangers_j)
        since["other_j"] = max(0.0, since["node_j"] - since["trials_j"] - since["idle_j"])
        return {**domain, **since, "missing_s": max(0.0, domain["missing_s"] - first["missing_s"])}

    def _grown_j(self, lease_id: str, name: str) -> float:
        """Return what a stranger's lease was charged in a domain since the first snapshot."""
        now, first = (source[lease_id]["energy"]["domains"] for source in (self._strangers, self._first["leases"]))
        return (now.get(name, {}).get("energy_j") or 0.0) - (first.get(name, {}).get("energy_j") or 0.0)
