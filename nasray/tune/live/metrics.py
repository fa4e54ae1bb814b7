"""A run's figures as metrics of Ray, which its dashboard's agents offer to Prometheus.

In Prometheus each name has the prefix `ray_`, and counters end in `_total`. A gauge that is not set anew leaves Ray's
metrics after some 20 s, so that ended trials do not pile up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from nasray.tune.live.state import LiveRun

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nasray_hypervolume": ("What the front dominates, in the product of the objectives' units.", ()),
    "nasray_front_size": ("Networks on the front.", ()),
    "nasray_best_accuracy": ("Best accuracy of an evaluation, a fraction.", ()),
    "nasray_stage_done": ("Share of the stage that is done.", ("stage",)),
    "nasray_power_w": ("Power of a node, W, of what its sensors and models see.", ("node",)),
    "nasray_trial_power_w": ("Power of a running trial, W; the search itself is a trial here.", ("node", "trial")),
    "nasray_energy_j": ("Energy that the run was charged so far, J.", ()),
    "nasray_carbon_kg": ("Greenhouse gases of that energy, kg CO2e.", ()),
    "nasray_hours": ("Wall-clock time of the run so far, h.", ()),
    "nasray_budget_left": ("Share of a limit that is left.", ("kind",)),
    "nasray_queue_length": ("Candidates or trials that wait for a worker.", ()),
    "nasray_workers": ("Workers that are busy, and all.", ("state",)),
}
"""Each gauge's description, and its labels besides `run`."""

EVALUATIONS = "nasray_evaluations"
"""Counter of evaluations by `status`."""


class RayMetrics:
    """Sets Ray's metrics to the figures of a run. Without `ray[default]` they go nowhere, and cost as little.

    Args:
        live: The run.
    """

    def __init__(self, live: LiveRun) -> None:
        self._live = live
        self._gauges: dict[str, Gauge] = {}
        self._counter: Counter | None = None
        self._counted: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def export(self) -> None:
        """Set every metric whose figure is known, where Ray is up."""
        live = self._live
        if live.name is None or not ray.is_initialized():
            return
        if self._counter is None:
            self._counter = Counter(EVALUATIONS, description="Evaluations so far.", tag_keys=("run", "status"))
            for name, (description, labels) in GAUGES.items():
                self._gauges[name] = Gauge(name, description=description, tag_keys=("run", *labels))
        for status, count in live.evaluations.items():
            if more := count - self._counted.get(status, 0):
                self._counter.inc(more, tags=_ascii({"run": live.name, "status": status}))
                self._counted[status] = count
        for gauge, tags, value in _values(live):
            if value is not None:
                if "node" in tags:
                    tags = {**tags, "node": self._node_name(tags["node"])}
                self._gauges[gauge].set(value, tags=_ascii({"run": live.name, **tags}))

    def _node_name(self, node: str) -> str:
        """Return a node's address, by which Ray's own metrics name it; with its id where several have the same."""
        if node not in self._names:
            addresses = {found["NodeID"]: str(found["NodeManagerAddress"]) for found in ray.nodes()}
            all_of_them = list(addresses.values())
            self._names |= {
                key: address if all_of_them.count(address) == 1 else f"{address} {key[:6]}"
                for key, address in addresses.items()
            }
        return self._names.setdefault(node, node)


def _values(live: LiveRun) -> list[tuple[str, dict[str, str], float | None]]:
    """Return every gauge's name, labels and value; None is unknown."""
    spent, labelled = live.spending, list[tuple[str, dict[str, str], float | None]]()
    if live.stage is not None:
        labelled.append(("nasray_stage_done", {"stage": live.stage}, live.done))
    labelled += [("nasray_power_w", {"node": node}, power_w) for node, power_w in live.power.nodes_w().items()]
    for (node, trial), power_w in live.power.trials_w().items():
        labelled.append(("nasray_trial_power_w", {"node": node, "trial": trial}, power_w))
    labelled += [("nasray_budget_left", {"kind": kind}, left) for kind, left in live.budget_left.items()]
    if live.workers is not None:
        states = zip(("busy", "all"), live.workers, strict=True)
        labelled += [("nasray_workers", {"state": state}, number) for state, number in states]
    return [
        ("nasray_hypervolume", {}, live.hypervolume),
        ("nasray_front_size", {}, live.front_size),
        ("nasray_best_accuracy", {}, live.best_accuracy),
        ("nasray_energy_j", {}, None if spent is None else spent.energy_j),
        ("nasray_carbon_kg", {}, None if spent is None or spent.carbon_g is None else spent.carbon_g / 1e3),
        ("nasray_hours", {}, None if spent is None else spent.hours),
        ("nasray_queue_length", {}, live.queue),
        *labelled,
    ]


def _ascii(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as Ray takes them: it refuses other letters, which runs' folders may have."""
    return {name: text.encode("ascii", "backslashreplace").decode() for name, text in tags.items()}


def where_metrics_go() -> str | None:
    """Return in a sentence where Ray offers metrics, or why it does not; None where Ray is not up."""
    if not ray.is_initialized():
        return None
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
    if any(node.get("MetricsExportPort", -1) > 0 for node in nodes):
        return f"Ray's dashboard: http://{_dashboard_url()}; its metrics hold this run's, see dashboards/README.md."
    return "No live metrics: Ray has no dashboard here. For one: pip install 'nasray[dashboard]'"


def _dashboard_url() -> str:
    from ray._private.worker import get_dashboard_url

    return str(get_dashboard_url())
