"""A differentiable search as one Tune trial: each step is an epoch, with a checkpoint behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from nasray.data import ImageData
from nasray.differentiable.search import SearchJob
from nasray.training.exit_jobs import with_cutout
from nasray.training.jobs import Place
from nasray.tune.checkpoints import load_state, save_state
from nasray.tune.session import Workers
from nasray.tune.stages import Stages

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
    """Runs a `GenotypeTask` named in the configuration; reports the genotype and the losses of every epoch so far."""

    def setup(self, config: dict[str, Any], tasks: Mapping[str, GenotypeTask] | None = None) -> None:
        """Build the search, and go on from an earlier checkpoint if the configuration names one."""
        assert tasks is not None
        self.task = tasks[config["trial"]["name"]]
        threads = max(1, int(self.task.workers.cpus))
        torch.set_num_threads(threads)
        place = Place(device=self.task.workers.device, decode_threads=threads)
        data = with_cutout(ray.get(self.task.data), self.task.cutout_px)
        self.running = self.task.job.start(data, place)
        self.seconds, self.history = 0.0, list[dict[str, float]]()
        if config["trial"].get("resume_from"):
            self.load_checkpoint(config["trial"]["resume_from"])

    def step(self) -> dict[str, Any]:
        """Search for one epoch."""
        start = time.perf_counter()
        metrics = {} if self.running.is_finished else self.running.run_epoch()
        self.seconds += time.perf_counter() - start
        if metrics:
            self.history.append({"epoch": self.running.epoch, **metrics})
        return {
            **metrics,
            "epoch": self.running.epoch,
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


def search_genotypes(stages: Stages, tasks: Mapping[str, GenotypeTask]) -> dict[str, dict[str, Any]]:
    """Run every search that is not finished, as many at a time as fit.

    Args:
        stages: Of the run.
        tasks: By trial name.

    Returns:
        Of each search that got through an epoch (a budget may end them early): `genotype` as JSON, `history` with the
        losses of each epoch, `seconds`, `has_collapsed`.
    """
    left = {name: task for name, task in tasks.items() if name not in stages.done(STAGE)}
    if left:
        total = sum(task.job.config.epochs for task in left.values())
        callback = stages.progress.training(STAGE, total)
        some = next(iter(left.values()))
        results = stages.run_stage(STAGE, GenotypeTrial, left, some.workers, [callback])
        for name, result in results.items():
            metrics = result.metrics or {}
            if "genotype" in metrics:
                kept = ("genotype", "history", "seconds", "has_collapsed", "energy_j", "carbon_g")
                stages.finish(STAGE, name, {key: metrics[key] for key in kept if key in metrics})
    return {name: outcome for name, outcome in stages.done(STAGE).items() if name in tasks}
