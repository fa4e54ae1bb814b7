"""MS-RANAS from end to end on Ray: differentiable searches, final trainings with rivals, measured exits, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import ray
import torch

from nasray.carbon.bill import Bill
from nasray.data import ImageData
from nasray.differentiable.memory import check_memory, search_memory_bytes
from nasray.differentiable.search_job import SearchJob
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.anytime import FILE
from nasray.spaces.genotype import NUM_INPUTS
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.exit_jobs import metric_names
from nasray.tune.batch_search import note_budget
from nasray.tune.cli_errors import TrialError
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.ms_ranas_checks import check_run
from nasray.tune.ms_ranas_comparison import compare
from nasray.tune.ms_ranas_costs import cost_terms
from nasray.tune.ms_ranas_curves import FRONT_OBJECTIVES, evaluation
from nasray.tune.ms_ranas_networks import TrainedNetwork, trained_networks
from nasray.tune.ms_ranas_results import ExitWriter
from nasray.tune.ms_ranas_search import GenotypeTask, search_genotypes
from nasray.tune.ms_ranas_settings import COSTS, MSRanasSettings, Variant
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.stages import Stages
from nasray.tune.workers import Workers

RESERVED = ("final", "export")
"""Stages for which searches leave what the bill says of the budget."""


class MSRanasRun:
    """One run: plans it, checks that it can be carried out, and does so stage by stage.

    Args:
        settings: What to compute.
        data: Data set.
        seeds: All searches and trainings, for each.
        measures_energy: Whether to measure the energy of each exit at the end, where the device has a counter.
        budgets_macs: Multiply-adds for an image that are expected, each as likely, for the expected accuracy; none for
            all from the cheapest exit of the run to its dearest one.

    Raises:
        ValueError: If seeds are negative or repeated, or numbers do not fit each other or the data.
    """

    def __init__(
        self,
        settings: MSRanasSettings,
        data: ImageData,
        *,
        seeds: Sequence[int],
        measures_energy: bool = False,
        budgets_macs: Sequence[float] = (),
    ) -> None:
        check_run(settings, data, seeds=seeds, budgets_macs=budgets_macs)
        self.settings, self.data, self.seeds = settings, data, tuple(seeds)
        self.variants, self._measures_energy = settings.variants, measures_energy
        self._budgets_macs = tuple(budgets_macs)

    @property
    def search_layouts(self) -> dict[Variant, MultiScaleSettings]:
        """Layout of each variant's relaxed network."""
        return {variant: self.settings.search_layout(variant, self.data) for variant in self.variants}

    def check_memory(self, device: str, num_searches: int) -> None:
        """Check that as many searches as run at a time fit into what a device has free.

        Raises:
            ValueError: If one does not.
        """
        config = self.settings.search
        num_searches = min(num_searches, len(self.variants) * len(self.seeds))
        for layout in dict.fromkeys(self.search_layouts.values()):
            try:
                check_memory(
                    layout,
                    batch_size=config.batch_size,
                    order=config.order,
                    device=torch.device(device),
                    num_searches=num_searches,
                )
            except MemoryError as error:
                raise ValueError(str(error)) from error

    def configuration(self) -> dict[str, Any]:
        """Return everything that decides what the run computes, as JSON."""
        return self.settings.to_json() | {"seeds": list(self.seeds)}

    def describe(self) -> list[str]:
        """Return what the run will do, a line each."""
        settings, search = self.settings, self.settings.search
        memory = max(
            search_memory_bytes(layout, batch_size=search.batch_size, order=search.order)
            for layout in dict.fromkeys(self.search_layouts.values())
        )
        order = "first" if search.order == 1 else "second"
        return [
            f"Data: {self.data.name}, {len(self.data.train):,} images of {self.data.resolution}x{self.data.resolution} "
            f"pixels to search and train on, {len(self.data.holdout):,} held out to choose by, "
            f"{len(self.data.test):,} to test on.",
            f"Searches: {len(self.variants)} with {len(self.seeds)} seed(s), {settings.layers} layers of "
            f"{settings.num_nodes}-node cells, {settings.channels} channels, {order} order, {search.epochs} epochs at "
            f"batch {search.batch_size}, up to {memory / 2**20:,.0f} MiB each.",
            *(f"  {variant.label}" for variant in self.variants),
            f"Final training: {settings.final.epochs} epochs of each found network, {settings.num_random} random "
            f"architecture(s) for each and {'an' if settings.has_msdnet else 'no'} MSDNet at about the same "
            "multiply-adds.",
        ]

    def execute(
        self,
        run: RunDirectory,
        progress: StageProgress,
        *,
        cluster: ClusterConfig,
        num_workers: int | None = None,
        training_workers: int = 1,
        energy: EnergySettings | None = None,
        bill: Bill | None = None,
    ) -> dict[str, Any]:
        """Carry the run out, or what is left of it; returns what stands in `anytime.json`.

        Args:
            run: Where to record.
            progress: What to show meanwhile.
            cluster: Which Ray.
            num_workers: Searches and trainings at a time; None for one per GPU or processor.
            training_workers: Data-parallel workers of a final training.
            energy: Where the electricity is from, and the budget. It ends searches early, so that what the bill says
                is left for the rest.
            bill: What `ms_ranas_bill` returned.

        Raises:
            TrialError: If a trial failed, or the budget left no search an epoch.
        """
        if self.data.notice:
            run.add_notice(self.data.notice)
        with ray_session(cluster, progress.say), (energy or EnergySettings()).account(run.path) as account:
            reserve = None if bill is None else bill.spending(RESERVED)
            stages = Stages(run, progress, account, reserve=reserve, storage=cluster.storage)
            workers = Workers.available(num_workers)
            data = ray.put(self.data)
            searches = self._search(stages, data, _of_a_trial(workers))
            if any(self._is_cut(outcome) for outcome in searches.values()):
                note_budget(run, account, None if bill is None else bill.spending(RESERVED))
            found = {name: outcome for name, outcome in searches.items() if not outcome["is_halved"]}
            networks = trained_networks(self.settings, self.data, seeds=self.seeds, found=found)
            self._train(stages, networks, data, workers, training_workers)
            results = self._results(stages, networks, searches)
            account.refresh(now=True)
        run.write_json(FILE, results)
        run.update(status="done")
        run.write_front(FRONT_OBJECTIVES)
        write_report(run)
        return results

    def _search(self, stages: Stages, data: Any, workers: Workers) -> dict[str, dict[str, Any]]:
        """Search with every variant and seed; returns what was found, by trial name."""
        terms = cost_terms(self.settings, self.search_layouts, stages)
        tasks = {
            variant.trial_name(seed): GenotypeTask(
                job=SearchJob(settings=layout, config=self.settings.search, cost=terms.get(variant), seed=seed),
                data=data,
                workers=workers,
                cutout_px=variant.cutout_px,
            )
            for variant, layout in self.search_layouts.items()
            for seed in self.seeds
        }
        found = search_genotypes(stages, tasks, halving=self.settings.halving)
        if not found:
            raise TrialError("The budget ended the run before any search got through an epoch. Give it more.")
        for name, outcome in found.items():
            if outcome["has_collapsed"]:
                stages.run.add_notice(f"Skip connections took over the normal cell of search {name}.")
            last = outcome["history"][-1]
            if last["num_skips"] + last["num_poolings"] == NUM_INPUTS * self.settings.num_nodes:
                stages.run.add_notice(f"The normal cell of search {name} has no operation with weights.")
            cost, target = last.get(f"derived_{COSTS[self.settings.cost]}"), self.settings.cost_target
            if cost is not None and target is not None and cost > target:
                stages.run.add_notice(f"Search {name} ended at {cost:.4g}, above its target of {target:.4g}.")
        if len(found) < len(tasks):
            stages.run.add_notice(f"{len(tasks) - len(found)} of {len(tasks)} searches were left out for the budget.")
        if halved := sum(outcome["is_halved"] for outcome in found.values()):
            stages.run.add_notice(f"{halved} of {len(tasks)} searches were stopped early: others were ahead of them.")
        return found

    def _is_cut(self, outcome: Mapping[str, Any]) -> bool:
        """Whether a search ended for the budget."""
        is_whole = len(outcome["history"]) >= self.settings.search.epochs
        return not (is_whole or outcome["is_halved"] or outcome["has_collapsed"])

    def _train(
        self, stages: Stages, networks: Sequence[TrainedNetwork], data: Any, workers: Workers, training_workers: int
    ) -> None:
        trainers = _of_a_trial(workers)
        if training_workers > 1:
            trainers = workers.for_training(training_workers, None)
        kept = dict.fromkeys(name for network in networks for name in metric_names(network.job.plan))
        jobs = {network.name: network.job for network in networks}
        stages.train("final", jobs, data, trainers, metric_names=(*kept, "energy_j", "carbon_g"))

    def _results(
        self, stages: Stages, networks: Sequence[TrainedNetwork], searches: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Measure every network, export the best, and compare."""
        device = self.settings.latency_device
        writer = ExitWriter(stages, self.data, device=device, measures_energy=self._measures_energy)
        with stages.timed("export", device), stages.progress.shown():
            rows, budgets = writer.write_all(networks, budgets_macs=self._budgets_macs)
        stages.run.append_evaluations([evaluation(row) for row in rows])
        return {
            "variants": [asdict(variant) | {"label": variant.label} for variant in self.variants],
            "searches": [{"name": name, **outcome} for name, outcome in searches.items()],
            "networks": rows,
            "budgets": budgets,
            "comparisons": compare(rows, num_classes=self.data.num_classes),
        }


def _of_a_trial(workers: Workers) -> Workers:
    """Return the resources of one search or training: its share of the processors, so that no more run at a time."""
    cpus = int(ray.cluster_resources()["CPU"]) // workers.count
    return replace(workers.for_training(1, cpus), gpus=workers.gpus)
