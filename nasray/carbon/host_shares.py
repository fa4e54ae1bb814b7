"""What one meter counted, divided among the nodes of a cluster that share its host."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nasray.carbon.sensors import GPU_PREFIX

Resources = Mapping[str, float]

_TO_ALL = ("other_j", "idle_j")


class HostShares:
    """Divides the snapshots of a host's meter into one for each node, which add up to the host's.

    A node gets what the leases of its processes are charged. Other work and idle time go to the nodes that are there at
    the time, in proportion to the processors that they offer, and for GPUs to the GPUs; alike where nobody offers any.
    A node that has left keeps what it had. A host with one node is passed on as it is.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Mapping[str, float]] = {}  # joules by domain, by lease
        self._nodes: dict[str, dict[str, dict[str, float]]] = {}  # joules by part, by node and domain
        self._host: dict[str, dict[str, float]] = {}

    def divide(self, snapshot: Mapping[str, Any], present: Mapping[str, Resources]) -> list[dict[str, Any]]:
        """Return a snapshot for each node that is or was on the host.

        Args:
            snapshot: Of `NodeMeter`, each lease with the `node` of its process.
            present: Resources that each node offers now, as Ray names them ("CPU", "GPU"); those on this host.
        """
        nodes = list(dict.fromkeys([*self._nodes, *present, *(e["node"] for e in snapshot["leases"].values())]))
        for node in nodes:
            self._nodes.setdefault(node, {})
        self._add_leases(snapshot["leases"])
        self._add_rest(snapshot["domains"], present)
        return [self._of(node, snapshot, present) for node in nodes]

    def _add_leases(self, leases: Mapping[str, Any]) -> None:
        """Add what leases were charged since the last time."""
        for key, entry in leases.items():
            domains = entry["energy"]["domains"].items()
            now = {name: domain["energy_j"] for name, domain in domains if domain["energy_j"] is not None}
            before = self._leases.get(key, {})
            for name, energy_j in now.items():
                self._part(entry["node"], name)["trials_j"] += energy_j - before.get(name, 0.0)
            self._leases[key] = now

    def _add_rest(self, domains: Mapping[str, Any], present: Mapping[str, Resources]) -> None:
        """Divide other work and idle time since the last time."""
        for name, domain in domains.items():
            if domain["node_j"] is None:
                continue
            before = self._host.get(name, {})
            self._host[name] = {part: domain[part] for part in _TO_ALL}
            # Before anybody was known to be there, it waits for whoever was there first.
            for node, share in _shares(name, present or {key: {} for key in self._nodes}).items():
                parts = self._part(node, name)
                for part in _TO_ALL:
                    parts[part] = max(0.0, parts[part] + share * (domain[part] - before.get(part, 0.0)))

    def _part(self, node: str, domain: str) -> dict[str, float]:
        parts = self._nodes.setdefault(node, {})
        return parts.setdefault(domain, {"trials_j": 0.0, "other_j": 0.0, "idle_j": 0.0})

    def _of(self, node: str, snapshot: Mapping[str, Any], present: Mapping[str, Resources]) -> dict[str, Any]:
        leases = {
            key: {"lease": entry["lease"], "energy": entry["energy"]}
            for key, entry in snapshot["leases"].items()
            if entry["node"] == node
        }
        part = {**snapshot, "node": node, "meter_id": f"{snapshot['meter_id']}@{node}", "leases": leases}
        if len(self._nodes) == 1:
            return part
        if node != next(iter(self._nodes)):  # said once: it is about the whole machine
            part.pop("cross_check", None)
        domains = {
            name: self._domain(node, name, domain, _shares(name, present).get(node, 0.0))
            for name, domain in snapshot["domains"].items()
        }
        return {**part, "domains": domains}

    def _domain(self, node: str, name: str, domain: Mapping[str, Any], share: float) -> dict[str, Any]:
        if domain["node_j"] is None:
            return dict(domain)
        parts, idle_power_w = self._part(node, name), domain["idle_power_w"]
        return {
            **domain,
            **parts,
            "node_j": math.fsum(parts.values()),
            "quality": "attributed" if domain["quality"] == "measured" else domain["quality"],
            "source": f"{domain['source']}; this node's part of a machine with {len(self._nodes)} nodes",
            "idle_power_w": None if idle_power_w is None else share * idle_power_w,
        }


def _shares(domain: str, present: Mapping[str, Resources]) -> dict[str, float]:
    """Return each node's share of what nobody is charged."""
    kind = "GPU" if domain.startswith(GPU_PREFIX) else "CPU"
    offered = {node: float(resources.get(kind, 0.0)) for node, resources in present.items()}
    total = math.fsum(offered.values())
    if not total:
        return dict.fromkeys(offered, 1 / len(offered)) if offered else {}
    return {node: amount / total for node, amount in offered.items()}
