"""A Pareto study of the sub-networks of one supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import ray

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.hardware.cost import Cost
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.latency import latency_measure
from nasray.hardware.registry import make_cost
from nasray.hardware.table_builder import build_latency_table
from nasray.models.supernet import Supernet
from nasray.objectives import Objective
from nasray.spaces.mobile import MobileSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.training.candidates import CandidateEvaluator, comparison_data
from nasray.training.jobs import SupernetJob
from nasray.tune.batch_search import search_in_batches
from nasray.tune.energy.calibration import Calibration
from nasray.tune.evaluation_pool import EvaluationPool
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.measured_again import Remeasure
from nasray.tune.netadapt_settings import NetAdaptSettings
from nasray.tune.problems.problem import ACCURACY, Place, Problem, Work
from nasray.tune.session import ray_session
from nasray.tune.stages import Stages, put_weights
from nasray.tune.workers import Workers

COSTS = {
    "macs": "macs",
    "parameters": "parameters",
    "memory_bytes": "memory",
    "latency_predicted_ms": "latency",
    "latency_ms": "measured-latency",
}
"""Metrics of a sub-network that need no training, and the costs behind them."""


def table_latency_again(space: MobileSpace, device: str = "cpu") -> Remeasure:
    """Return how the latency that a lookup table predicts is measured on whole networks."""
    return Remeasure(
        metric="latency_predicted_ms",
        unit="ms",
        device=DeviceFingerprint.of(device, threads=1).describe(),
        measure=latency_measure(space, device=device),
    )


class SubnetProblem(Problem):
    """Sub-networks of a supernet that is trained first; they inherit its weights, so that each takes milliseconds.

    Args:
        settings: Recipe of the supernet, and how sub-networks are compared.
        data: Data set.
        seed: Of the supernet.
        batch_size: Candidates that are asked for at a time; a population, where the strategy has one.
    """

    def __init__(self, settings: NetAdaptSettings, data: ImageData, *, seed: int, batch_size: int) -> None:
        self._settings, self._data, self._seed, self._batch_size = settings, data, seed, batch_size
        self.space = self._mobile = settings.space(
            num_classes=data.num_classes, channels=data.channels, resolution=data.resolution
        )
        # One end of the front: random networks are far smaller.
        self.initial = (self.space.largest(),)
        self.metrics, self.num_evaluations = ("accuracy", "loss", *COSTS), 1000
        self.objectives = (ACCURACY, Objective(name="macs", unit="MACs"))

    def describe(self) -> list[str]:
        """Return the data, the initial network and the recipe."""
        data, initial, recipe = self._data, self._mobile.plan(self.space.largest()), self._settings.supernet
        return [
            f"Data: {data.name}, {len(data.train):,} images to train on, {len(data.holdout):,} to compare on.",
            f"Initial network: {self.space.name}, {initial.macs / 1e6:.2f}M MACs, {len(self.space.choices)} choices.",
            f"Supernet: {recipe.epochs} epochs at batch {recipe.batch_size}.",
        ]

    def configuration(self) -> dict[str, Any]:
        """Return the supernet's recipe and how sub-networks are compared."""
        settings = self._settings
        return {
            "network": self.space.name,
            "supernet": asdict(settings.supernet),
            "num_subnets": settings.num_subnets,
            "candidates": asdict(settings.candidates),
        }

    def data(self) -> dict[str, Any]:
        """Return the description of the images."""
        return self._data.describe()

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Train the supernet on few images, and compare some of its sub-networks."""
        settings = self._settings
        job = self._job()
        training_s = calibration.training_s(job, self._data)
        supernet = Supernet(self._mobile)
        calibration.place.put(supernet.eval())
        compare = CandidateEvaluator(supernet, comparison_data(self._data, settings.candidates), settings.candidates)
        generator = np.random.default_rng(self._seed)
        each_s = calibration.seconds_each(compare, iter(lambda: self.space.random(generator), None))
        parameters = self._mobile.plan(self.space.largest()).parameters
        return [
            Work(stage="supernet", seconds=training_s, is_shared=False, parameters=parameters),
            Work(stage="search", seconds_each=each_s),
        ]

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Train the supernet, then evaluate batches of sub-networks on a pool of actors."""
        with ray_session(place.cluster, place.progress.say), place.energy.account(place.run.path) as account:
            stages = Stages(place.run, place.progress, account, storage=place.cluster.storage)
            costs = self._costs(stages, {"macs", "parameters", *strategy.formulation.metrics})
            workers = Workers.available(place.num_workers)
            limit = FailureLimit.of(place.max_failures, workers.count)
            pool = self._pool(stages, workers, place.timeout_s, limit)

            def evaluate(architectures: Sequence[Architecture]) -> list[Evaluation | None]:
                with place.progress.working(workers.count, len(architectures)) as came_back:
                    evaluations = pool.evaluate(architectures, came_back)
                return list(map(partial(_with_costs, costs), architectures, evaluations))

            try:
                return search_in_batches(
                    strategy,
                    evaluate,
                    run=place.run,
                    progress=place.progress,
                    batch_size=self._batch_size,
                    device=workers.device,
                    formulation=formulation,
                    account=account,
                    limit=limit,
                    storage=place.cluster.storage,
                )
            finally:
                pool.close()

    def remeasure(self, formulation: Formulation) -> Remeasure | None:
        """Return how the lookup table's latency is measured on whole networks."""
        return table_latency_again(self._mobile) if "latency_predicted_ms" in formulation.metrics else None

    def _pool(self, stages: Stages, workers: Workers, timeout_s: float | None, limit: FailureLimit) -> EvaluationPool:
        """Train the supernet unless that is done, and return evaluators that hold it."""
        settings = self._settings
        trainer = workers.for_training(1, settings.training_cpus)
        (folder,) = stages.train("supernet", {"supernet": self._job()}, ray.put(self._data), trainer).values()
        comparison = ray.put(comparison_data(self._data, settings.candidates))
        pool = EvaluationPool(
            self._mobile.spec,
            put_weights(folder),
            comparison,
            settings.candidates,
            workers,
            owner="search",
            timeout_s=timeout_s,
            limit=limit,
        )
        pool.wait_until_ready()
        return pool

    def _job(self) -> SupernetJob:
        settings = self._settings
        return SupernetJob(
            network=self._mobile.spec, training=settings.supernet, seed=self._seed, num_subnets=settings.num_subnets
        )

    def _costs(self, stages: Stages, metrics: set[str]) -> dict[str, Cost]:
        """Return the costs behind the metrics; builds the lookup table first where one is needed."""
        table = None
        if "latency_predicted_ms" in metrics:
            path = stages.run.path / "latency_table.jsonl"
            with stages.timed("latency table", "cpu"), stages.progress.shown():
                bar = stages.progress.bar("latency table", 1.0)
                table = build_latency_table(
                    path, self._mobile, progress=lambda done, all_: bar.move(done / all_, f"{done} of {all_} timings")
                )
        return {
            metric: make_cost(cost, self._mobile, table=table) for metric, cost in COSTS.items() if metric in metrics
        }


def _with_costs(
    costs: Mapping[str, Cost], architecture: Architecture, evaluation: Evaluation | None
) -> Evaluation | None:
    """Return an evaluation, if there is one, with the figures that need no training."""
    if evaluation is None:
        return None
    figures = {metric: cost(architecture).value for metric, cost in costs.items()}
    return replace(evaluation, metrics={**evaluation.metrics, **figures})
