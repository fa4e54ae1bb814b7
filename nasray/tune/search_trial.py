"""A whole search as one Tune trial: each step is one iteration of coordinate descent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from pyarrow.fs import FileSystem
from ray import tune

from nasray.architecture import Architecture
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.hardware.cost import Cost
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_spec import NetworkSpec
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig
from nasray.strategies.strategy import Trial
from nasray.training.candidates import CandidateConfig
from nasray.training.jobs import Weights
from nasray.tune.checkpoints import fetched, load_progress, save_progress
from nasray.tune.evaluation_pool import EvaluationPool
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.workers import Workers

INITIAL = "initial"


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """What one search needs.

    Args:
        network: Initial network.
        weights: Reference to the trained supernet's weights.
        data: Reference to the data that sub-networks are compared on.
        cost: What the target limits.
        descent: Settings of the optimizer, with the target in the cost's unit.
        candidates: How sub-networks are compared.
        workers: Evaluators of this search.
        seed: Of the optimizer.
        timeout_s: How long a candidate may take, in seconds; None for no limit.
        max_failures: How many candidates in a row may fail until the search ends; None as `FailureLimit.of` says.
    """

    network: NetworkSpec
    weights: ray.ObjectRef[Weights]
    data: ray.ObjectRef[ImageData]
    cost: Cost
    descent: CoordinateDescentConfig
    candidates: CandidateConfig
    workers: Workers
    seed: int
    timeout_s: float | None = None
    max_failures: int | None = None

    def resources(self) -> tune.PlacementGroupFactory:
        """Return a bundle for the search and one for each evaluator.

        The search itself takes a trace of the head, so that the loss of another node costs evaluators alone.
        """
        bundle = {"CPU": self.workers.cpus}
        if self.workers.gpus:
            bundle["GPU"] = self.workers.gpus
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}] + [bundle] * self.workers.count)


class SearchTrial(tune.Trainable):
    """Runs a `SearchTask` named in the configuration, one iteration per step.

    A result holds the best sample's figures and, under `evaluations`, a row for each candidate; they leave the
    result when they are recorded. A checkpoint holds the optimizer's state and the rows of the last iteration, so
    that a crash between checkpoint and record loses nothing (rows are told apart by `sample_id`).

    Where too many candidates in a row fail, or all of an iteration, the result says so under `ended_by`, and the
    checkpoint is that of the iteration before: a search that goes on tries the iteration again.
    """

    def setup(
        self,
        config: dict[str, Any],
        tasks: Mapping[str, SearchTask] | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Start the evaluators, and go on from an earlier checkpoint if the configuration names one."""
        self.name_ = config["trial"]["name"]
        assert tasks is not None
        self.task = task = tasks[self.name_]
        self.space = MobileSpace(task.network)
        self.strategy = CoordinateDescent(
            self.space, lambda a: task.cost(a).value, task.descent, np.random.default_rng(task.seed)
        )
        self.limit = FailureLimit.of(task.max_failures, task.workers.count)
        self.ended_by: str | None = None
        self.known: dict[str, Evaluation] = {}
        self.last_rows: list[dict[str, Any]] = []
        self.carried_rows: list[dict[str, Any]] = []
        self.pool = EvaluationPool(
            task.network,
            task.weights,
            task.data,
            task.candidates,
            task.workers,
            owner=self.trial_id,
            timeout_s=task.timeout_s,
            limit=self.limit,
        )
        self.pool.wait_until_ready()
        with fetched(config["trial"].get("resume_from"), filesystem) as folder:
            if folder is not None:
                self.load_checkpoint(folder)

    def step(self) -> dict[str, Any]:
        """Evaluate one iteration's samples and close it."""
        start = time.perf_counter()
        rows, self.carried_rows = self.carried_rows, []
        fresh: list[dict[str, Any]] = []
        if self.strategy.iteration == 1:
            fresh += self._evaluate([Trial(trial_id=INITIAL, architecture=self.space.largest())])
        if not self.strategy.is_finished:
            fresh += self._iterate()
        best = self.strategy.trajectory[-1]
        for row in fresh:
            row["selected"] = row["sample_id"].endswith(f"/{INITIAL}") or row["arch_id"] == best.architecture.arch_id
        self.last_rows = fresh
        return {
            "iteration_of_search": best.iteration,
            "budget": best.budget,
            "cost": best.cost,
            "accuracy": best.accuracy,
            "num_samples": sum(step.num_samples for step in self.strategy.trajectory),
            "architecture": best.architecture.to_json(),
            "initial_cost": self.strategy.initial_cost,
            "target": self.task.descent.target,
            "seconds": time.perf_counter() - start,
            "evaluations": rows + fresh,
            "ended_by": self.ended_by,
            "done": self.strategy.is_finished or self.ended_by is not None,
        }

    def _iterate(self) -> list[dict[str, Any]]:
        before = self.strategy.state_dict()
        trials: list[Trial] = []
        while (trial := self.strategy.ask()) is not None:
            trials.append(trial)
        rows = self._evaluate(trials)
        try:
            self.limit.raise_if_reached()
            for trial in trials:
                self.strategy.tell(trial.trial_id, self.known[trial.architecture.arch_id])
        except RuntimeError as error:
            # Raised, it would have Ray start the trial again, and all would fail once more.
            self.ended_by = str(error)
            self.strategy.load_state_dict(before)
        return rows

    def _evaluate(self, trials: list[Trial]) -> list[dict[str, Any]]:
        """Evaluate what is not known yet, and return a row for each trial that is."""
        new = [trial.architecture for trial in trials if trial.architecture.arch_id not in self.known]
        for architecture, evaluation in zip(new, self.pool.evaluate(new), strict=True):
            if evaluation is not None:
                self.known[architecture.arch_id] = evaluation
        return [self._row(trial) for trial in trials if trial.architecture.arch_id in self.known]

    def _row(self, trial: Trial) -> dict[str, Any]:
        architecture = trial.architecture
        evaluation = self.known[architecture.arch_id]
        plan, cost = self.space.plan(architecture), self.strategy.cost(architecture)
        costs = {"macs": plan.macs, "parameters": plan.parameters, metric_name(self.task.cost): cost}
        iteration = 0 if trial.trial_id == INITIAL else self.strategy.iteration
        return {
            "sample_id": f"{self.name_}/{trial.trial_id}",
            "arch_id": architecture.arch_id,
            "architecture": architecture.to_json(),
            "metrics": {**evaluation.metrics, **costs},
            "status": evaluation.status,
            "reason": evaluation.reason,
            "trial_id": self.name_,
            "stage": "search",
            "iteration": iteration,
            "budget": self.strategy.budget,
            "cost_name": metric_name(self.task.cost),
            "cost": cost,
            "seconds": evaluation.seconds,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the optimizer's state and the last rows."""
        save_progress(
            Path(checkpoint_dir),
            {"strategy": self.strategy.state_dict(), "rows": self.last_rows, "infeasible": self._infeasible()},
        )

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue after the iteration at which the checkpoint was taken."""
        progress = load_progress(Path(checkpoint))
        self.strategy.load_state_dict(progress["strategy"])
        self.carried_rows = self.last_rows = progress["rows"]
        self.known |= {key: Evaluation(**value) for key, value in progress.get("infeasible", {}).items()}

    def _infeasible(self) -> dict[str, Any]:
        """Return what is not to be tried again, as it does not fit into memory."""
        return {key: found.to_json() for key, found in self.known.items() if found.status == "infeasible"}

    def cleanup(self) -> None:
        """End the evaluators."""
        self.pool.close()


def metric_name(cost: Cost) -> str:
    """Return the name under which a cost stands in records, unit included."""
    return {"latency": "latency_predicted_ms", "measured-latency": "latency_ms", "memory": "memory_bytes"}.get(
        cost.name, cost.name
    )


def architecture_of(result: Mapping[str, Any]) -> Architecture:
    """Return the best architecture of a search's result."""
    return Architecture.from_json(result["architecture"])
