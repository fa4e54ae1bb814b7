"""What an MS-RANAS run ends with: every network measured exit by exit, the best exported, and all compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from nasray.data import Batches, ImageData
from nasray.hardware.counter import count_macs
from nasray.hardware.inference_energy import has_counter, measure_inference_energy
from nasray.hardware.latency import measure_latency
from nasray.models.anytime_budget import ExitCosts, Measure, measure_exits
from nasray.models.anytime_export import export_exits
from nasray.models.anytime_metrics import area_under_curve
from nasray.models.msdnet_plan import MSDNetPlan
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitNetwork, ExitPlan, accuracy_name, load_exit_weights
from nasray.tune.checkpoints import load_weights
from nasray.tune.ms_ranas_networks import GROUPS, Group, TrainedNetwork
from nasray.tune.stages import Stages

_LATENCY_S, _ROUNDS = 0.05, 3
"""Time for a measurement of an exit's latency, and how many are made in turns."""


class ExitWriter:
    """Measures, exports and describes trained networks.

    Args:
        stages: Of the run, for weights, results of trials and the run directory.
        data: Data set; a few test images are what exports are compared on.
        device: Where latency and energy are measured.
        measures_energy: Whether to measure the energy of each exit (some 15 s each) if the device has a counter.
    """

    def __init__(self, stages: Stages, data: ImageData, *, device: str, measures_energy: bool = False) -> None:
        self._stages, self._data, self._device = stages, data, device
        self._measures_energy = measures_energy and has_counter(device)
        few = data.test.subset(torch.arange(min(8, len(data.test))))
        self._example_BCHW = next(iter(Batches(few, data, batch_size=8, num_workers=1)))[0]

    def write(self, trained: TrainedNetwork) -> dict[str, Any]:
        """Return the row of a network, with the accuracy and the measured costs of each exit."""
        plan = trained.job.plan
        outcome = self._stages.done("final")[trained.name]
        costs = self._measured(self._network(trained))
        return {
            "name": trained.name,
            "group": trained.group,
            "label": GROUPS[trained.group],
            "variant": trained.variant,
            "seed": trained.seed,
            "cutout_px": trained.job.cutout_px,
            "arch_id": network_id(plan),
            "genotype": plan.genotype.to_json() if isinstance(plan, MultiScalePlan) else None,
            "layout": plan.settings.to_drawing() if isinstance(plan, MultiScalePlan) else None,
            "settings": asdict(plan.settings),
            "area_under_curve": outcome["area_under_curve"],
            "training_s": outcome["seconds"],
            "energy_j": outcome.get("energy_j"),
            "carbon_g": outcome.get("carbon_g"),
            "model_dir": None,
            "exits": exit_rows(costs, [outcome[accuracy_name(exit + 1)] for exit in range(len(costs.macs))]),
        }

    def export(self, trained: TrainedNetwork, row: Mapping[str, Any]) -> str:
        """Export every exit of a network as ONNX and .pt2, parity-checked; returns the folder, within the run's."""
        folder = self._stages.run.model_directory(trained.name)
        accuracies = ", ".join(f"{exit['test_accuracy']:.4f}" for exit in row["exits"])
        latencies = ", ".join(f"{exit['latency_ms']:.3f}" for exit in row["exits"])
        report = export_exits(
            self._network(trained),
            folder,
            example_BCHW=self._example_BCHW,
            card={
                "Data": self._data.name,
                "Network": f"{GROUPS[trained.group]}; {trained.variant}; seed {trained.seed}",
                "Test accuracy of each exit": accuracies,
                "Latency of each exit, ms, batch size 1": latencies,
            },
        )
        for note in report.skipped:
            self._stages.run.add_notice(note)
        return folder.relative_to(self._stages.run.path).as_posix()

    def _network(self, trained: TrainedNetwork) -> ExitNetwork:
        folder = self._stages.run.path / "weights" / f"final-{trained.name}"
        return load_exit_weights(trained.job.plan, load_weights(folder))

    def _measured(self, network: ExitNetwork) -> ExitCosts:
        """Return what each exit costs; latencies are medians of rounds in turns, for what else the machine does."""
        shape = (1, *self._example_BCHW.shape[1:])

        def energy_j(module: torch.nn.Module) -> float:
            found = measure_inference_energy(module, shape, device=self._device, num_windows=1).gross_mj
            return float("nan") if found is None else found / 1e3

        def macs(module: torch.nn.Module) -> float:
            return count_macs(module, shape)

        energy: Measure | None = energy_j if self._measures_energy else None
        alone = [network.exit_network(exit) for exit in range(1, network.num_exits + 1)]
        rounds = [
            [measure_latency(module, shape, device=self._device, budget_s=_LATENCY_S).median_ms for module in alone]
            for _ in range(_ROUNDS)
        ]
        latencies_ms = tuple(map(statistics.median, zip(*rounds, strict=True)))
        return replace(measure_exits(network, macs=macs, energy_j=energy), latency_ms=latencies_ms)


def exit_rows(costs: ExitCosts, accuracies: Sequence[float]) -> list[dict[str, Any]]:
    """Return a row for each exit: what it costs and how accurate it is; None for what was not measured."""
    unknown = [None] * len(accuracies)
    energies = [None if energy != energy else energy for energy in costs.energy_j or unknown]
    columns = {
        "exit": range(1, len(accuracies) + 1),
        "test_accuracy": accuracies,
        "macs": costs.macs,
        "cumulative_macs": costs.cumulative_macs,
        "parameters": costs.parameters,
        "latency_ms": costs.latency_ms or unknown,
        "energy_mj": [None if energy is None else 1e3 * energy for energy in energies],
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def evaluation(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network as a row of the run's evaluations."""
    last = row["exits"][-1]
    metrics = {"test_accuracy": last["test_accuracy"], "area_under_curve": row["area_under_curve"]}
    costs = {name: last[name] for name in ("macs", "parameters", "latency_ms")}
    return {
        "sample_id": row["name"],
        "trial_id": row["name"],
        "arch_id": row["arch_id"],
        "status": "ok",
        "metrics": metrics | costs,
    }


def network_id(plan: ExitPlan) -> str:
    """Return a short name of a network: of its cells, or of MSDNet's numbers."""
    if isinstance(plan, MSDNetPlan):
        settings = plan.settings
        return f"msdnet-{settings.blocks}-{settings.base}-{settings.step}-{settings.channels}-{settings.growth}"
    return MultiScaleSpace(plan.settings).architecture(plan.genotype).arch_id


def best_of_each(rows: Sequence[Mapping[str, Any]], groups: Iterable[Group]) -> list[str]:
    """Return the names of the networks with the largest area under the curve, one for each group and variant."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["group"], row["variant"])
        if row["group"] in groups and (key not in best or row["area_under_curve"] > best[key]["area_under_curve"]):
            best[key] = row
    return [str(row["name"]) for row in best.values()]


def compare(rows: Sequence[Mapping[str, Any]], *, num_classes: int) -> list[dict[str, Any]]:
    """Return how found networks differ from their rivals, variant by variant, over the seeds.

    Three differences of accuracy, each found minus rival: of the last exits; of the means over all budgets up to the
    dearest last exit, where a network without an answer guesses; and of the same means over those budgets alone with
    which every network has an answer. Several rivals of a seed count with their mean.

    Args:
        rows: Of the run; an MSDNet is a rival of every variant with its number of exits.
        num_classes: What guessing is as good as one of.
    """
    found = []
    for variant in dict.fromkeys(row["variant"] for row in rows if row["group"] == "found"):
        ours = [row for row in rows if row["group"] == "found" and row["variant"] == variant]
        for group in ("random", "msdnet"):
            rivals = [row for row in rows if row["group"] == group and _are_comparable(row, ours[0])]
            if rivals:
                found.append(_comparison(variant, group, ours, rivals, num_classes))
    return found


def _are_comparable(rival: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    if rival["group"] == "random":
        return bool(rival["variant"] == ours["variant"])
    shared = (len(rival["exits"]), rival["settings"]["scales"], rival["cutout_px"])
    return shared == (len(ours["exits"]), ours["settings"]["scales"], ours["cutout_px"])


def _comparison(
    variant: str,
    group: Group,
    ours: Sequence[Mapping[str, Any]],
    rivals: Sequence[Mapping[str, Any]],
    num_classes: int,
) -> dict[str, Any]:
    everyone = [*ours, *rivals]
    dearest = max(row["exits"][-1]["macs"] for row in everyone)
    first = max(row["exits"][0]["macs"] for row in everyone)
    values: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "last_exit": lambda row: float(row["exits"][-1]["test_accuracy"]),
        "all_budgets": lambda row: _mean_accuracy(row, 0, dearest, num_classes),
        "answered_budgets": lambda row: _mean_accuracy(row, first, dearest, num_classes),
    }
    ratios = [statistics.mean(row["exits"][-1]["macs"] for row in rows) for rows in (rivals, ours)]
    return {
        "variant": variant,
        "rival": group,
        "num_rivals": len(rivals),
        "macs_ratio": ratios[0] / ratios[1],
        "differences": {name: _spread(_differences(ours, rivals, value)) for name, value in values.items()},
    }


def _mean_accuracy(row: Mapping[str, Any], min_macs: float, max_macs: float, num_classes: int) -> float:
    macs, accuracies = ([exit[name] for exit in row["exits"]] for name in ("macs", "test_accuracy"))
    # A range of no length, as of networks with one exit each, still has its own end in it.
    end = max(max_macs, min_macs + 1)
    return area_under_curve(macs, accuracies, min_macs=min_macs, max_macs=end, unanswered=1 / num_classes)


def _differences(
    ours: Sequence[Mapping[str, Any]],
    rivals: Sequence[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], float],
) -> list[float]:
    """Return, for each seed with a rival, how much more a found network has than its rivals on average."""
    found = []
    for row in ours:
        others = [value(rival) for rival in rivals if rival["seed"] == row["seed"]]
        if others:
            found.append(value(row) - statistics.mean(others))
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and sample standard deviation (None for a single one) with the values themselves."""
    return {
        "values": list(values),
        "mean": statistics.mean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }
