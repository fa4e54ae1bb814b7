"""What is left of a run at the end: each network measured, exported, and as a row of the result table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nasray.architecture import Architecture
from nasray.data import Batches, ImageData
from nasray.hardware.analytic import Memory
from nasray.hardware.cost import Cost
from nasray.hardware.latency import Latency, measure_latency
from nasray.models.export import export_network
from nasray.models.plain import PlainNetwork
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import LayerPlan, NetworkPlan
from nasray.tune.checkpoints import load_weights
from nasray.tune.search_trial import metric_name
from nasray.tune.stages import Stages


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """A network that a run ends with.

    Args:
        label: As the result table calls it.
        trial_id: Search (and final training) that it comes from.
        architecture: The network.
        cost: What the search limited.
        target: Limit, in the cost's unit.
        accuracy_supernet: Held-out accuracy with the supernet's weights.
        samples: Candidates that the search evaluated.
        iterations: Iterations that it took.
        is_trained: Whether it was trained.
    """

    label: str
    trial_id: str
    architecture: Architecture
    cost: Cost
    target: float | None = None
    accuracy_supernet: float | None = None
    samples: int = 0
    iterations: int = 0
    is_trained: bool = True


class NetworkWriter:
    """Measures, exports and describes networks.

    Args:
        stages: Of the run, for weights, times and the run directory.
        space: Search space.
        data: Data set; a few test images are what exports are compared on.
        latency_device: Where latencies are measured.
    """

    def __init__(self, stages: Stages, space: MobileSpace, data: ImageData, *, latency_device: str) -> None:
        self._stages, self._space, self._data = stages, space, data
        self._latency_device = latency_device
        few = data.test.subset(torch.arange(min(8, len(data.test))))
        self._example_BCHW = next(iter(Batches(few, data, batch_size=8, num_workers=1)))[0]
        self._exported: set[str] = set()

    def write(self, found: Discovered) -> dict[str, Any]:
        """Return the row of a network, exported first if it was trained."""
        plan = self._space.plan(found.architecture)
        network = PlainNetwork(plan)
        accuracy = None
        if found.is_trained:
            folder = self._stages.run.path / "weights" / f"final-{found.trial_id}"
            state = {name: torch.from_numpy(value) for name, value in load_weights(folder).items()}
            network.load_state_dict(state)
            accuracy = float(self._stages.done("final")[found.trial_id]["test_accuracy"])
        latency = measure_latency(
            network, (1, *self._example_BCHW.shape[1:]), device=self._latency_device, budget_s=0.5
        )
        folder_name = None if accuracy is None else self._export(found, network, accuracy, latency)
        return {
            "label": found.label,
            "arch_id": found.architecture.arch_id,
            "trial_id": found.trial_id,
            "accuracy_supernet": found.accuracy_supernet,
            "test_accuracy": accuracy,
            "macs": plan.macs,
            "parameters": plan.parameters,
            "memory_bytes": int(Memory(self._space)(found.architecture).value),
            "latency_ms": latency.median_ms,
            "latency_spread_ms": latency.spread_ms,
            "device": latency.device.describe(),
            "target": found.target,
            "cost_name": metric_name(found.cost),
            "samples": found.samples,
            "iterations": found.iterations,
            "model_dir": folder_name,
            "layers": layer_rows(plan),
            **self._prediction(found),
        }

    def _prediction(self, found: Discovered) -> dict[str, float]:
        if found.cost.name != "latency":
            return {}
        return {"latency_predicted_ms": found.cost(found.architecture).value}

    def _export(self, found: Discovered, network: PlainNetwork, accuracy: float, latency: Latency) -> str:
        """Export a network unless another training of the same architecture was; returns its folder.

        Test images choose nothing: the first one is shipped, not the best.
        """
        arch_id = found.architecture.arch_id
        folder = self._stages.run.model_directory(arch_id)
        if arch_id not in self._exported:
            self._exported.add(arch_id)
            stages = {stage["name"]: stage["seconds"] for stage in self._stages.run.run["stages"]}
            report = export_network(
                network.eval(),
                found.architecture,
                folder,
                example_BCHW=self._example_BCHW,
                card={
                    "pixels": self._data.pixel_formula,
                    "data": self._data.name,
                    "accuracy": f"{accuracy:.4f} (test)",
                    "latency_ms": f"{latency.median_ms:.3f} (interquartile range {latency.spread_ms:.3f})",
                    "latency_device": f"{latency.device.describe()}, batch size 1",
                    "search": f"{found.label}, {found.samples} candidates",
                    "search_time_s": ", ".join(f"{name} {seconds:.0f}" for name, seconds in stages.items()),
                },
            )
            for note in report.skipped:
                self._stages.run.add_notice(note)
        return folder.relative_to(self._stages.run.path).as_posix()


def layer_rows(plan: NetworkPlan) -> list[dict[str, Any]]:
    """Return every layer of the initial network, with what is left of it, for the drawing."""
    left = {layer.name: layer for layer in plan.layers()}
    rows = []
    size = plan.spec.resolution
    for block in plan.spec.blocks:
        for spec in block.layers:
            name = f"{block.name}.{spec.name}"
            layer = left.get(name)
            rows.append(
                {
                    "name": name,
                    "block": block.name,
                    "kind": "pointwise" if spec.kind == "conv" and spec.kernel == 1 else spec.kind,
                    "initial_filters": spec.filters,
                    "initial_kernel": spec.kernel,
                    "stride": spec.stride,
                    **(_sizes(layer) if layer else _gone(size)),
                }
            )
            size = layer.out_size if layer else size
    return rows


def _sizes(layer: LayerPlan) -> dict[str, Any]:
    return {
        "in_channels": layer.in_channels,
        "filters": layer.filters,
        "bypassed_channels": layer.bypassed_channels,
        "out_channels": layer.out_channels,
        "kernel": layer.kernel,
        "in_size": layer.in_size,
        "out_size": layer.out_size,
        "macs": layer.macs,
        "parameters": layer.parameters,
        "is_removed": layer.filters == 0 and layer.spec.kind in ("conv", "depthwise"),
    }


def _gone(size: int) -> dict[str, Any]:
    zeros = dict.fromkeys(("in_channels", "filters", "bypassed_channels", "out_channels", "kernel"), 0)
    return {**zeros, "in_size": size, "out_size": size, "macs": 0, "parameters": 0, "is_removed": True}
