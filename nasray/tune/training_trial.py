"""A training run as one Tune trial: each step is one epoch; with several workers, data-parallel through Ray Train."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import ray.train
import torch
from pyarrow.fs import FileSystem
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback

from nasray.data import ImageData
from nasray.training.config import TrainingConfig
from nasray.training.jobs import Place, RunningJob
from nasray.tune.checkpoints import fetched, load_state, load_weights, save_state, save_weights
from nasray.tune.energy.leases import STAGE_NAMES, open_lease_here
from nasray.tune.workers import Workers


class Job(Protocol):
    """What can be trained: a `TrainingJob`, or anything that behaves like one. Picklable."""

    @property
    def training(self) -> TrainingConfig:
        """The recipe."""
        ...

    def start(self, data: ImageData, place: Place) -> RunningJob:
        """Build model, optimizer and data for this worker."""
        ...

    def final_metrics(self, running: RunningJob, data: ImageData, place: Place) -> dict[str, float]:
        """Return what is measured once, after the last epoch."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """What one training run needs.

    Args:
        job: What to train.
        data: Reference to the data set.
        workers: Data-parallel workers of this run.
        storage: Path for the checkpoints of several workers, on the file system that all nodes reach.
        stage: Stage that the run belongs to.
    """

    job: Job
    data: ray.ObjectRef[ImageData]
    workers: Workers
    storage: str
    stage: str

    def resources(self) -> tune.PlacementGroupFactory:
        """Return the trial's resources; several workers bring their own, beside a trial that only waits.

        A trial that waits takes a trace of a resource that every cluster has, as Ray refuses empty bundles and a
        trace of a processor would leave too little for the workers.
        """
        if self.workers.count > 1:
            return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
        bundle = {"CPU": self.workers.cpus}
        if self.workers.gpus:
            bundle["GPU"] = self.workers.gpus
        return tune.PlacementGroupFactory([bundle])


class TrainingTrial(tune.Trainable):
    """Runs a `TrainingTask` named in the configuration; the last checkpoint holds the averaged weights."""

    def setup(
        self,
        config: dict[str, Any],
        tasks: Mapping[str, TrainingTask] | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Build the job, and go on from an earlier checkpoint if the configuration names one."""
        assert tasks is not None
        self.task = tasks[config["trial"]["name"]]
        torch.set_num_threads(max(1, int(self.task.workers.cpus)))
        self.place = Place(device=self.task.workers.device, decode_threads=max(1, int(self.task.workers.cpus)))
        self.data = ray.get(self.task.data)
        self.running = self.task.job.start(self.data, self.place)
        self.seconds = 0.0
        with fetched(config["trial"].get("resume_from"), filesystem) as folder:
            if folder is not None:
                self.load_checkpoint(folder)

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        start = time.perf_counter()
        metrics = {} if self.running.is_finished else self.running.run_epoch()
        if self.running.is_finished:
            metrics |= self.task.job.final_metrics(self.running, self.data, self.place)
        self.seconds += time.perf_counter() - start
        return epoch_result(self.running, metrics, self.seconds) | {"done": self.running.is_finished}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the next epoch depends on."""
        write_checkpoint(Path(checkpoint_dir), self.running, self.seconds)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue after the epoch at which the checkpoint was taken."""
        self.seconds = read_checkpoint(Path(checkpoint), self.running)


def data_parallel_trial(
    config: dict[str, Any], tasks: Mapping[str, TrainingTask] | None = None, filesystem: FileSystem | None = None
) -> None:
    """Run a `TrainingTask` on several workers through Ray Train, which reports every epoch to Tune.

    Ray Train restarts a lost worker from its own checkpoint of the last epoch, and goes on from there when the same run
    is started again, also with another number of workers.
    """
    assert tasks is not None
    name = config["trial"]["name"]
    task = tasks[name]
    workers = task.workers
    TorchTrainer(
        train_epochs,
        train_loop_config={
            "task": task,
            "resume_from": config["trial"].get("resume_from"),
            "filesystem": filesystem,
            "owner": tune.get_context().get_trial_id(),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{task.stage}-{name}",
            storage_path=task.storage,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    ).fit()


def last_weights(result: tune.Result, filesystem: FileSystem | None = None) -> dict[str, np.ndarray]:
    """Return the weights of a training's last checkpoint, Tune's own or the one that Ray Train reported.

    Args:
        result: Of the trial.
        filesystem: What the checkpoint is on; None for this machine's.
    """
    reported = (result.metrics or {}).get(CHECKPOINT_PATH_KEY)
    if reported is None:
        assert result.checkpoint is not None
        reported = result.checkpoint.path
    with fetched(reported, filesystem) as folder:
        assert folder is not None
        return load_weights(folder)


def train_epochs(config: dict[str, Any]) -> None:
    """Train on one of several workers, reporting after every epoch; rank 0 writes the checkpoints."""
    task: TrainingTask = config["task"]
    open_lease_here(config["owner"], STAGE_NAMES.get(task.stage, task.stage))
    context = ray.train.get_context()
    torch.set_num_threads(max(1, int(task.workers.cpus)))
    device = str(ray.train.torch.get_device()) if task.workers.gpus else "cpu"
    place = Place(
        device=device,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        decode_threads=max(1, int(task.workers.cpus)),
    )
    data = ray.get(task.data)
    running = task.job.start(data, place)
    seconds = 0.0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as place_here:
            seconds = read_checkpoint(Path(place_here), running)
    else:
        with fetched(config["resume_from"], config["filesystem"]) as folder:
            if folder is not None:
                seconds = read_checkpoint(folder, running)
    # At least one report: a run that ended after its last epoch but before it was noted is started again.
    for _ in range(max(1, task.job.training.epochs - running.trainer.epoch)):
        start = time.perf_counter()
        metrics = {} if running.is_finished else running.run_epoch()
        if running.is_finished:
            metrics |= task.job.final_metrics(running, data, place)
        seconds += time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            if place.rank == 0:
                write_checkpoint(Path(folder), running, seconds)
            report = ray.train.Checkpoint.from_directory(folder) if place.rank == 0 else None
            ray.train.report(epoch_result(running, metrics, seconds), checkpoint=report)


def epoch_result(running: RunningJob, metrics: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """Return what a trial reports after an epoch.

    Not that it is done: Tune would end a data-parallel trial before Ray Train has given its workers back.
    """
    return {
        **metrics,
        "skipped_images": running.skipped_images,
        "epoch": running.trainer.epoch,
        "num_epochs": running.trainer.config.epochs,
        "seconds": seconds,
    }


def write_checkpoint(folder: Path, running: RunningJob, seconds: float) -> None:
    """Write the training state, and the averaged weights once training is over."""
    save_state(folder, {"job": running.state_dict(), "seconds": seconds})
    if running.is_finished:
        save_weights(folder, running.weights())


def read_checkpoint(folder: Path, running: RunningJob) -> float:
    """Continue a job from a checkpoint; returns the seconds trained before."""
    state = load_state(folder)
    running.load_state_dict(state["job"])
    return float(state["seconds"])
