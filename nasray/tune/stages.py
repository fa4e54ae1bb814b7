"""The stages of a NetAdaptV2 run on Ray, each resumable: what is done stands in the run directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.stopper import CombinedStopper

from nasray.carbon.budget import Spending
from nasray.records import RunDirectory
from nasray.records.files import writing
from nasray.training.jobs import Weights
from nasray.tune.batch_search import note_budget
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.checkpoints import has_weights, load_weights, save_weights
from nasray.tune.disk_space import DiskWatch
from nasray.tune.energy.account import BudgetStopper, ClusterAccount
from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.energy.leases import STAGE_NAMES
from nasray.tune.failure_limit import TooManyFailuresError
from nasray.tune.progress import StageProgress
from nasray.tune.run_storage import RunStorage
from nasray.tune.search_trial import SearchTask, SearchTrial
from nasray.tune.session import run_trials
from nasray.tune.stage_callbacks import CopyRecords, RecordEvaluations, TakeWeights
from nasray.tune.storage_folder import reaching
from nasray.tune.training_trial import Job, TrainingTask, TrainingTrial, data_parallel_trial, last_weights
from nasray.tune.workers import Workers


class Stages:
    """Runs stages, skips what an earlier run finished, and keeps the time of each.

    Args:
        run: The run directory.
        progress: Shown while a stage runs.
        account: Of the run's energy, started; each stage's trials are charged. Its budget ends searches early.
        reserve: What searches leave of the budget for later stages.
        storage: Where checkpoints and a copy of the records are kept; None keeps checkpoints in the run directory.
    """

    def __init__(
        self,
        run: RunDirectory,
        progress: StageProgress,
        account: ClusterAccount,
        *,
        reserve: Spending | None = None,
        storage: RunStorage | None = None,
    ) -> None:
        self.run, self.progress, self.account, self._reserve = run, progress, account, reserve
        self._storage = storage
        self.checkpoints = CheckpointStore.local(run.path / "ray") if storage is None else storage.checkpoints
        self.watch = DiskWatch(run)
        if self.save():
            for stage, trials in run.run.get("finished", {}).items():
                for name in trials:
                    self.checkpoints.remove_finished(stage, name)
        progress.follow(run.path.resolve().name, account)

    def done(self, stage: str) -> dict[str, Any]:
        """Return what a stage finished so far, by trial."""
        finished: dict[str, Any] = self.run.run.get("finished", {}).get(stage, {})
        return finished

    def finish(self, stage: str, name: str, outcome: Mapping[str, Any]) -> None:
        """Note a trial as finished, and remove its checkpoints once its result is wherever a run can go on from."""
        finished = {key: dict(value) for key, value in self.run.run.get("finished", {}).items()}
        finished.setdefault(stage, {})[name] = dict(outcome)
        self.run.update(finished=finished)
        if self.save():
            self.checkpoints.remove_finished(stage, name)

    def save(self) -> bool:
        """Copy the records to the storage, if there is one; returns whether they are all where they are to be."""
        return self._storage is None or self._storage.push()

    def train(
        self,
        stage: str,
        jobs: Mapping[str, Job],
        data: Any,
        workers: Workers,
        *,
        metric_names: Sequence[str] = ("test_accuracy",),
    ) -> dict[str, Path]:
        """Train every job that is not finished; returns the folder of each one's weights.

        Args:
            stage: Name of the stage.
            jobs: By trial name.
            data: Reference to the data set.
            workers: Of each job.
            metric_names: What to record of the jobs' final metrics.
        """
        folders = {name: self.run.path / "weights" / f"{stage}-{name}" for name in jobs}
        left = {name: job for name, job in jobs.items() if not self._is_trained(stage, name, folders[name])}
        tasks = {
            name: TrainingTask(
                job=job, data=data, workers=workers, storage=(self.checkpoints.folder / "train").path, stage=stage
            )
            for name, job in left.items()
        }
        if not tasks:
            return folders
        trainable = TrainingTrial if workers.count == 1 else data_parallel_trial
        total = sum(job.training.epochs for job in left.values())
        kept = ("loss", "seconds", *metric_names)

        def take(name: str, result: tune.Result) -> None:
            with writing(folders[name]):
                folders[name].mkdir(parents=True, exist_ok=True)
            save_weights(folders[name], last_weights(result, self.checkpoints.filesystem))
            metrics = result.metrics or {}
            self.note_skipped(metrics.get("skipped_images", ()))
            self.finish(stage, name, {key: metrics[key] for key in kept if key in metrics})
            left.pop(name)

        callbacks = [self.progress.training(stage, total), TakeWeights(take, self.watch)]
        results = self.run_stage(stage, trainable, tasks, workers, callbacks)
        for name in list(left):
            take(name, results[name])
        return folders

    def _is_trained(self, stage: str, name: str, folder: Path) -> bool:
        """Whether a training is finished and its weights are there."""
        if name not in self.done(stage):
            return False
        if not has_weights(folder):
            self.run.add_notice(f"The weights of {name} ({stage}) are missing or damaged and are made again.")
            return False
        return True

    def search(self, tasks: Mapping[str, SearchTask]) -> dict[str, dict[str, Any]]:
        """Run every search that is not finished; returns the last result of each.

        A search that its budget ended is finished: its network is trained, and a resumed run does not search on.

        Raises:
            TooManyFailuresError: If too many candidates of a search failed; a resumed run goes on with it.
        """
        stage = "search"
        left = {name: task for name, task in tasks.items() if name not in self.done(stage)}
        if left:
            rows = [row for row in self.run.evaluations() if row.get("stage") == stage]
            callbacks = [self.progress.search(len(left), rows), RecordEvaluations(self.run, self._storage)]
            some = next(iter(left.values()))
            results = self.run_stage(stage, SearchTrial, left, some.workers, callbacks)
            keep = ("architecture", "accuracy", "cost", "initial_cost", "target", "num_samples", "iteration_of_search")
            for name, result in results.items():
                metrics = result.metrics or {}
                if metrics.get("ended_by"):
                    continue
                self.finish(stage, name, {key: metrics[key] for key in keep})
                if metrics["cost"] > metrics["target"]:
                    note_budget(self.run, self.account, self._reserve)
            for name, result in results.items():
                if sentence := (result.metrics or {}).get("ended_by"):
                    raise TooManyFailuresError(f"{name}: {sentence}")
        return {name: self.done(stage)[name] for name in tasks}

    def _stoppers(self, stage: str) -> list[tune.Stopper]:
        # Each search goes on to its next result, so that there is a network to train.
        return [BudgetStopper(self.account, self._reserve, waits_for_results=True)] if stage == "search" else []

    def note_skipped(self, names: Sequence[str]) -> None:
        """Say and record which images could not be read, if any."""
        if names:
            text = f"{len(names)} unreadable image(s) skipped: {', '.join(names[:3])}."
            self.run.add_notice(text)
            self.progress.say(text)

    def timed(self, stage: str, device: str) -> _Timer:
        """Return a context whose time is recorded as a stage's."""
        return _Timer(self, stage, device)

    def run_stage(
        self,
        stage: str,
        trainable: Any,
        tasks: Mapping[str, Any],
        workers: Workers,
        callbacks: Sequence[tune.Callback],
        *,
        scheduler: TrialScheduler | None = None,
    ) -> dict[str, tune.Result]:
        """Run a trial for each task, from its newest checkpoint if an earlier attempt left one.

        Args:
            stage: Name of the stage; "search" is what a budget ends early.
            trainable: Takes the tasks by name as `tasks`, and what its checkpoint is on as `filesystem`; see
                `nasray.tune.session.run_trials`.
            tasks: By trial name, all with the same `resources()`.
            workers: Of each trial.
            callbacks: Told of results as they come.
            scheduler: May end trials early; None lets all run to their end.

        Raises:
            DiskError: If the disk takes no more, or the run has used what it may.
            RunError: If the storage cannot be reached.
        """
        with reaching(self.checkpoints.folder):
            resume = self.checkpoints.to_resume(self.run, stage, tasks)
            for name in tasks:
                self.checkpoints.remove_outdated(stage, name)
            attempt = self.checkpoints.next_attempt(stage)
        resources = next(iter(tasks.values())).resources()
        followed = self.progress.trials(workers.count, _at_once(resources, len(tasks)))
        charged = EnergyCallback(stage=STAGE_NAMES.get(stage, stage), account=self.account)
        copied = [] if self._storage is None else [CopyRecords(self._storage)]
        with self.timed(stage, workers.device), self.progress.shown(), self.watch.telling():
            return run_trials(
                tune.with_parameters(trainable, tasks=dict(tasks), filesystem=self.checkpoints.filesystem),
                list(tasks),
                stage=attempt,
                storage=self.checkpoints.folder,
                resources=resources,
                stop=CombinedStopper(self.watch, *self._stoppers(stage)),
                callbacks=[self.watch, charged, *callbacks, followed, *copied],
                resume_from=resume,
                scheduler=scheduler,
            )


def _at_once(resources: tune.PlacementGroupFactory, num_trials: int) -> int:
    """Return how many trials of these resources Ray can run at a time."""
    offered = ray.cluster_resources()
    needed = {kind: amount for kind, amount in resources.required_resources.items() if amount}
    return max(1, min(num_trials, *(int(offered.get(kind, 0.0) // amount) for kind, amount in needed.items())))


class _Timer:
    def __init__(self, stages: Stages, stage: str, device: str) -> None:
        self._stages, self._stage, self._device = stages, stage, device

    def __enter__(self) -> None:
        self._start, self._started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")

    def __exit__(self, *error: object) -> None:
        seconds = time.perf_counter() - self._start
        self._stages.run.add_stage(self._stage, seconds, started=self._started, device=self._device)
        self._stages.save()


def put_weights(folder: Path) -> ray.ObjectRef[Weights]:
    """Put stored weights into the object store, as numpy arrays (tensors are copied by every reader)."""
    weights: Weights = load_weights(folder)
    return ray.put(weights)
