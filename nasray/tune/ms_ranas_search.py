"""A differentiable search as one Tune trial: each step is an epoch, with a checkpoint behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from pyarrow.fs import FileSystem
from ray import tune

from nasray.data import ImageData
from nasray.differentiable.search_job import SearchJob
from nasray.objectives import Objective
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import with_cutout
from nasray.training.jobs import Place
from nasray.tune.checkpoints import fetched, load_state, save_state
from nasray.tune.multi_objective_halving import MultiObjectiveHalving
from nasray.tune.stages import Stages
from nasray.tune.workers import Workers

STAGE = "search"


@dataclass(frozen=True, kw_only=True)
class GenotypeTask:
    """What one differentiable search needs.

    Args:
        job: The search.
        data: Reference to the data set.
        workers: Resources of the one worker.
        cutout_px: Side of the square that is cut out of training images; 0 cuts nothing.
    """

    job: SearchJob
    data: ray.ObjectRef[ImageData]
    workers: Workers
    cutout_px: int = 0

    def resources(self) -> tune.PlacementGroupFactory:
        """Return the trial's resources."""
        gpus = {"GPU": self.workers.gpus} if self.workers.gpus else {}
        return tune.PlacementGroupFactory([{"CPU": self.workers.cpus, **gpus}])


class GenotypeTrial(tune.Trainable):
    """Runs a `GenotypeTask` named in the configuration.

    Reports the genotype, the losses of every epoch so far, and what a scheduler may compare: `holdout_accuracy` of the
    relaxed network, and `macs` and `parameters` of the network derived now.
    """

    def setup(
        self,
        config: dict[str, Any],
        tasks: Mapping[str, GenotypeTask] | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Build the search, and go on from an earlier checkpoint if the configuration names one."""
        assert tasks is not None
        self.task = tasks[config["trial"]["name"]]
        threads = max(1, int(self.task.workers.cpus))
        torch.set_num_threads(threads)
        place = Place(device=self.task.workers.device, decode_threads=threads)
        data = with_cutout(ray.get(self.task.data), self.task.cutout_px)
        self.running = self.task.job.start(data, place)
        self.seconds, self.history = 0.0, list[dict[str, float]]()
        with fetched(config["trial"].get("resume_from"), filesystem) as folder:
            if folder is not None:
                self.load_checkpoint(folder)

    def step(self) -> dict[str, Any]:
        """Search for one epoch."""
        start = time.perf_counter()
        if not self.running.is_finished:
            losses = self.running.run_epoch()
            accuracy = self.running.holdout_metrics()["accuracy"]
            self.history.append({"epoch": self.running.epoch, **losses, "holdout_accuracy": accuracy})
        self.seconds += time.perf_counter() - start
        plan = MultiScalePlan(genotype=self.running.genotype(), settings=self.running.settings)
        return {
            **self.history[-1],
            "macs": plan.macs,
            "parameters": plan.parameters,
            "seconds": self.seconds,
            "genotype": self.running.genotype().to_json(),
            "history": self.history,
            "has_collapsed": self.running.has_collapsed,
            "done": self.running.is_finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next epoch depends on: weights, architecture parameters, both optimizers."""
        state = {"search": self.running.state_dict(), "seconds": self.seconds, "history": self.history}
        save_state(Path(checkpoint_dir), state)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue after the epoch at which the checkpoint was taken."""
        state = load_state(Path(checkpoint))
        self.running.load_state_dict(state["search"])
        self.seconds, self.history = float(state["seconds"]), list(state["history"])


def search_genotypes(
    stages: Stages, tasks: Mapping[str, GenotypeTask], *, halving: float | None = None
) -> dict[str, dict[str, Any]]:
    """Run every search that is not finished, as many at a time as fit.

    Args:
        stages: Of the run.
        tasks: By trial name, all with as many epochs.
        halving: Of so many searches that reach a rung one goes on, by held-out accuracy and multiply-adds; None lets
            all run to their end. After a break the rungs start empty, so that fewer searches are stopped.

    Returns:
        Of each search that got through an epoch (a budget may end them early): `genotype` as JSON, `history` with the
        losses of each epoch, `seconds`, `has_collapsed`, `is_halved` if others were better.
    """
    left = {name: task for name, task in tasks.items() if name not in stages.done(STAGE)}
    if left:
        total = sum(task.job.config.epochs for task in left.values())
        callback = stages.progress.training(STAGE, total)
        some = next(iter(left.values()))
        scheduler = None if halving is None else Halving(halving, some.job.config.epochs)
        results = stages.run_stage(STAGE, GenotypeTrial, left, some.workers, [callback], scheduler=scheduler)
        for name, result in results.items():
            metrics = result.metrics or {}
            if "genotype" in metrics:
                kept = ("genotype", "history", "seconds", "has_collapsed", "energy_j", "carbon_g")
                is_halved = scheduler is not None and name in scheduler.stopped
                outcome = {key: metrics[key] for key in kept if key in metrics}
                stages.finish(STAGE, name, outcome | {"is_halved": is_halved})
    return {name: outcome for name, outcome in stages.done(STAGE).items() if name in tasks}


class Halving(MultiObjectiveHalving):
    """Stops searches that others are ahead of, and knows which.

    Args:
        reduction_factor: Of so many searches at a rung one goes on.
        epochs: Of every search.
    """

    def __init__(self, reduction_factor: float, epochs: int) -> None:
        objectives = [Objective(name="holdout_accuracy", direction="maximize"), Objective(name="macs")]
        # The first cells of a search say little: a rung at a third of the epochs, then at `reduction_factor` times it.
        grace = max(1, epochs // 3)
        super().__init__(
            objectives, time_attr="epoch", grace_period=grace, reduction_factor=reduction_factor, max_t=epochs
        )
        self.stopped: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a search goes on, and note those that do not."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == self.STOP and result["epoch"] < self.max_t:
            self.stopped.add(str(trial.config["trial"]["name"]))
        return decision
