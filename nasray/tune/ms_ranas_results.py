"""What an MS-RANAS run ends with: every network measured exit by exit, and the best exported."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from nasray.data import Batches, ImageData
from nasray.hardware.counter import count_macs
from nasray.hardware.inference_energy import has_counter, measure_inference_energy
from nasray.hardware.latency import measure_latency
from nasray.models.anytime_budget import ExitCosts, Measure, measure_exits
from nasray.models.anytime_export import export_exits
from nasray.models.anytime_policies import thresholds_from_json
from nasray.models.anytime_thresholds import ExitPolicy
from nasray.models.msdnet_plan import MSDNetPlan
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitNetwork, ExitPlan, accuracy_name, load_exit_weights
from nasray.tune.checkpoints import load_weights
from nasray.tune.ms_ranas_curves import with_curves
from nasray.tune.ms_ranas_networks import GROUPS, TrainedNetwork
from nasray.tune.stages import Stages

EXPORTED = ("found", "msdnet")
"""Groups whose best networks are exported."""

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

    def write_all(
        self, networks: Sequence[TrainedNetwork], *, budgets_macs: Sequence[float] = ()
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Measure every network, export the best that were found and the best MSDNets; returns what `with_curves` does.

        Args:
            networks: All that the run trained.
            budgets_macs: See `with_curves`.
        """
        bar = self._stages.progress.bar("export", 2 * len(networks))
        measured = []
        for number, network in enumerate(networks, start=1):
            measured.append(self.write(network))
            bar.move(number, f"measured {network.name}")
        rows, budgets = with_curves(measured, num_classes=self._data.num_classes, budgets_macs=budgets_macs)
        best = [
            (network, row)
            for network, row in zip(networks, rows, strict=True)
            if row["is_best"] and row["group"] in EXPORTED
        ]
        for number, (network, row) in enumerate(best, start=1):
            row["model_dir"] = self.export(network, row)
            bar.move(len(networks) * (1 + number / len(best)), f"exported {network.name}")
        return rows, budgets

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
            "rival_of": list(trained.rival_of),
            "seed": trained.seed,
            "cutout_px": trained.job.cutout_px,
            "arch_id": network_id(plan),
            "genotype": plan.genotype.to_json() if isinstance(plan, MultiScalePlan) else None,
            "layout": plan.settings.to_drawing() if isinstance(plan, MultiScalePlan) else None,
            "settings": asdict(plan.settings),
            "parameters": plan.parameters,
            "training_s": outcome["seconds"],
            "energy_j": outcome.get("energy_j"),
            "carbon_g": outcome.get("carbon_g"),
            "model_dir": None,
            "exits": exit_rows(
                costs,
                *(
                    [outcome[accuracy_name(exit + 1, split)] for exit in range(len(costs.macs))]
                    for split in ("holdout", "test")
                ),
            ),
            "adaptive": outcome["adaptive"],
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
                "Pixels": self._data.pixel_formula,
                "Data": self._data.name,
                "Network": f"{GROUPS[trained.group]}; {trained.variant}; seed {trained.seed}",
                "Test accuracy of each exit": accuracies,
                "Chosen by": f"area under the curve of held-out accuracy, {row['holdout_area_under_curve']:.4f}",
                "Latency of each exit, ms, batch size 1": latencies,
            },
            costs=exit_costs(row["exits"]),
            policies=[
                ExitPolicy(
                    thresholds=thresholds_from_json(policy["thresholds"]),
                    shares=tuple(policy["holdout_shares"]),
                    mean_macs=policy["holdout_mean_macs"],
                )
                for policy in row["adaptive"]
            ],
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


def exit_rows(
    costs: ExitCosts, holdout_accuracies: Sequence[float], test_accuracies: Sequence[float]
) -> list[dict[str, Any]]:
    """Return a row for each exit: what it costs and how accurate it is; None for what was not measured."""
    unknown = [None] * len(test_accuracies)
    energies = [None if energy != energy else energy for energy in costs.energy_j or unknown]
    columns = {
        "exit": range(1, len(test_accuracies) + 1),
        "holdout_accuracy": holdout_accuracies,
        "test_accuracy": test_accuracies,
        "macs": costs.macs,
        "cumulative_macs": costs.cumulative_macs,
        "parameters": costs.parameters,
        "latency_ms": costs.latency_ms or unknown,
        "energy_mj": [None if energy is None else 1e3 * energy for energy in energies],
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def exit_costs(rows: Sequence[Mapping[str, Any]]) -> ExitCosts:
    """Return the costs in what `exit_rows` gave; energies only where that of every exit is known."""

    def column(name: str) -> tuple[Any, ...]:
        return tuple(row[name] for row in rows)

    energies_mj = column("energy_mj")
    return ExitCosts(
        macs=column("macs"),
        cumulative_macs=column("cumulative_macs"),
        parameters=column("parameters"),
        latency_ms=None if None in column("latency_ms") else column("latency_ms"),
        energy_j=None if None in energies_mj else tuple(energy / 1e3 for energy in energies_mj),
    )


def network_id(plan: ExitPlan) -> str:
    """Return a short name of a network: of its cells, or of MSDNet's numbers."""
    if isinstance(plan, MSDNetPlan):
        settings = plan.settings
        numbers = (settings.blocks, settings.base, settings.step, settings.channels, settings.growth)
        return "-".join(map(str, ("msdnet", *numbers, settings.classifier_channels)))
    return MultiScaleSpace(plan.settings).architecture(plan.genotype).arch_id
