"""NetAdaptV2 from end to end on Ray: supernet, searches, final training, export, report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from nasray.architecture import Architecture
from nasray.carbon.bill import Bill
from nasray.data import ImageData
from nasray.hardware.cost import Cost
from nasray.hardware.device import check_device
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.training.candidates import comparison_data
from nasray.training.jobs import NetworkJob, SupernetJob
from nasray.tune.checkpoints import load_weights
from nasray.tune.discovered import Discovered, NetworkWriter
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.measured_again import check_front
from nasray.tune.netadapt_costs import RunCosts, Search
from nasray.tune.netadapt_settings import NetAdaptSettings
from nasray.tune.payback import BASELINES, paybacks, with_energy
from nasray.tune.problems.subnets import table_latency_again
from nasray.tune.progress import StageProgress
from nasray.tune.search_trial import SearchTask, architecture_of, metric_name
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.stages import Stages, put_weights
from nasray.tune.workers import Workers

INITIAL = "initial"


class NetAdaptRun:
    """One run: plans it, checks that its targets can be reached, and carries it out stage by stage.

    Args:
        settings: What to compute.
        data: Data set.
        seeds: A supernet, and searches to every target under every cost, for each.
        latency_table: Lookup table of this device to use for the cost `latency`; None builds one in the run.

    Raises:
        InfeasibleTargetError: If a target cannot be reached.
        ValueError: If seeds are negative or repeated, or the table is missing, damaged or another device's.
    """

    def __init__(
        self, settings: NetAdaptSettings, data: ImageData, *, seeds: Sequence[int], latency_table: Path | None = None
    ) -> None:
        if min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f"`seeds` must be different whole numbers of at least 0, got {list(seeds)}.")
        self.settings, self.data, self.seeds = settings, data, tuple(seeds)
        self.space = settings.space(num_classes=data.num_classes, channels=data.channels, resolution=data.resolution)
        self.searches = [
            Search(cost=cost, target=target, seed=seed)
            for seed in self.seeds
            for cost in settings.costs
            for target in settings.targets
        ]
        if len({search.name for search in self.searches}) < len(self.searches):
            raise ValueError("`cost` and `target` must not repeat, got one twice. Name each once.")
        settings.descent(1.0)  # wrong settings show before anything is measured
        check_device(settings.latency_device)
        self._costs = RunCosts(settings, self.space, latency_table)

    def configuration(self) -> dict[str, Any]:
        """Return everything that decides what the run computes, as JSON."""
        return self.settings.to_json() | {
            "network": self.space.name,
            "seeds": list(self.seeds),
            "latency_table": None if self._costs.given_table is None else self._costs.given_table.describe(),
        }

    def describe(self) -> list[str]:
        """Return what the run will do, a line each."""
        initial = self.space.plan(self.space.largest())
        settings = self.settings
        lines = [
            f"Data: {self.data.name}, {len(self.data.train):,} images to train on, {len(self.data.holdout):,} to "
            f"compare candidates on, {len(self.data.test):,} to test on.",
            f"Initial network: {self.space.name}, {initial.macs / 1e6:.2f}M MACs, {initial.parameters / 1e6:.3f}M "
            f"parameters, {len(self.space.choices)} choices.",
            f"Supernet: {settings.supernet.epochs} epochs at batch {settings.supernet.batch_size}, "
            f"{len(self.seeds)} seed(s).",
        ]
        for cost in settings.costs:
            targets = ", ".join(str(target) for target in settings.targets)
            lines.append(
                f"Search: {settings.optimizer} coordinate descent, {cost} to {targets}, J = {settings.num_samples}, "
                f"L = {settings.num_layers}, first reduction {settings.first_reduction:.1%}, decay {settings.decay}."
            )
        lines.append(f"Final training: {settings.final.epochs} epochs for each discovered network.")
        return lines

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
        baseline: str = BASELINES[0],
        timeout_s: float | None = None,
        max_failures: int | None = None,
    ) -> list[dict[str, Any]]:
        """Carry the run out, or what is left of it; returns the rows of the result table.

        Args:
            run: Where to record.
            progress: What to show meanwhile.
            cluster: Which Ray.
            num_workers: Evaluators of a search; None for one per GPU or processor.
            training_workers: Data-parallel workers of a training.
            energy: Where the electricity is from, and the budget. It ends searches early, so that what the bill says
                is left for the final training.
            bill: What `netadapt_bill` returned.
            baseline: One of `BASELINES`, which found networks have to pay their search back against.
            timeout_s: How long a candidate of a search may take, in seconds; None for no limit.
            max_failures: How many of a search's candidates in a row may fail until it ends; None for the default.

        Raises:
            InfeasibleTargetError: If a latency target is out of reach, known once latencies are.
        """
        if self.data.notice:
            run.add_notice(self.data.notice)
        with ray_session(cluster, progress.say), (energy or EnergySettings()).account(run.path) as account:
            reserve = None if bill is None else bill.spending(["final"])
            stages = Stages(run, progress, account, reserve=reserve, storage=cluster.storage)
            costs = self._costs.made(stages)
            run.aim(_front_objectives(costs))
            bounds = {"timeout_s": timeout_s, "max_failures": max_failures}
            self._run_stages(stages, costs, num_workers, training_workers, bounds)
            # The bill's power is that of the device that trains: no estimate for latencies of another one.
            is_same = self.settings.latency_device.startswith(Workers.available(num_workers).device)
            rows = with_energy(self._results(stages, costs), bill.power_w if bill and is_same else None)
            account.refresh(now=True)
            points = paybacks(rows, search_j=account.ledger.energy_j, baseline=baseline)
        run.update(results=rows, break_even=[point.describe() for point in points], status="done")
        run.write_front(_front_objectives(costs))
        if "latency" in costs:
            check_front(run, table_latency_again(self.space, self.settings.latency_device), progress)
        write_report(run)
        return rows

    def _run_stages(
        self,
        stages: Stages,
        costs: dict[str, Cost],
        num_workers: int | None,
        training_workers: int,
        bounds: dict[str, Any],
    ) -> None:
        workers = Workers.available(num_workers)
        trainers = workers.for_training(training_workers, self.settings.training_cpus)
        data = ray.put(self.data)
        supernets = {
            f"seed{seed}": SupernetJob(
                network=self.space.spec,
                training=self.settings.supernet,
                seed=seed,
                num_subnets=self.settings.num_subnets,
                is_masked=self.settings.is_masked,
            )
            for seed in self.seeds
        }
        folders = stages.train("supernet", supernets, data, trainers)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping")  # said in our own words below
            comparison = ray.put(comparison_data(self.data, self.settings.candidates))
        stages.note_skipped(self.data.skipped_images)
        references = {name: put_weights(folder) for name, folder in folders.items()}
        limits = self._costs.limits(stages, costs, self.searches)
        tasks = {
            search.name: SearchTask(
                network=self.space.spec,
                weights=references[f"seed{search.seed}"],
                data=comparison,
                cost=costs[search.cost],
                descent=self.settings.descent(limits[search.name]),
                candidates=self.settings.candidates,
                workers=workers,
                seed=search.seed,
                **bounds,
            )
            for search in self.searches
        }
        found = stages.search(tasks)
        jobs = {
            search.name: self._final_job(architecture_of(found[search.name]), folders, search.seed)
            for search in self.searches
        }
        if self.settings.trains_initial:
            jobs |= {
                f"{INITIAL}-seed{seed}": self._final_job(self.space.largest(), folders, seed) for seed in self.seeds
            }
        stages.train("final", jobs, data, trainers)

    def _final_job(self, architecture: Architecture, folders: dict[str, Path], seed: int) -> NetworkJob:
        settings = self.settings
        is_taught = settings.distillation > 0 or settings.inherits
        return NetworkJob(
            network=self.space.spec,
            training=settings.final,
            seed=seed,
            architecture=architecture,
            supernet_weights=load_weights(folders[f"seed{seed}"]) if is_taught else {},
            inherits=settings.inherits,
            distillation=settings.distillation,
        )

    def _results(self, stages: Stages, costs: dict[str, Cost]) -> list[dict[str, Any]]:
        """Measure and export every network, and return a row for each."""
        writer = NetworkWriter(stages, self.space, self.data, latency_device=self.settings.latency_device)
        found = []
        for seed in self.seeds:
            search = next(search for search in self.searches if search.seed == seed)
            found.append(
                Discovered(
                    label=INITIAL,
                    trial_id=f"{INITIAL}-seed{seed}",
                    architecture=self.space.largest(),
                    cost=costs[search.cost],
                    is_trained=self.settings.trains_initial,
                )
            )
        for search in self.searches:
            outcome = stages.done("search")[search.name]
            found.append(
                Discovered(
                    label=f"{search.cost} <= {search.target}",
                    trial_id=search.name,
                    architecture=architecture_of(outcome),
                    cost=costs[search.cost],
                    target=outcome["target"],
                    accuracy_supernet=outcome["accuracy"],
                    samples=outcome["num_samples"],
                    iterations=outcome["iteration_of_search"],
                )
            )
        with stages.timed("export", "cpu"), stages.progress.shown():
            bar = stages.progress.bar("export", len(found))
            rows = []
            for index, network in enumerate(found, start=1):
                rows.append(writer.write(network))
                bar.move(index, network.label)
        return rows


def _front_objectives(costs: Mapping[str, Cost]) -> list[dict[str, str]]:
    names = dict.fromkeys(["macs", "parameters", *(metric_name(cost) for cost in costs.values())])
    return [
        {"name": "accuracy", "unit": "fraction", "direction": "maximize"},
        *({"name": name, "unit": _unit(name), "direction": "minimize"} for name in names),
    ]


def _unit(metric: str) -> str:
    return {"latency_ms": "ms", "latency_predicted_ms": "ms", "memory_bytes": "bytes"}.get(metric, "count")
