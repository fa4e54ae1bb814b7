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

from nasray.carbon.budget import Spending
from nasray.records import RunDirectory
from nasray.training.jobs import Weights
from nasray.tune.batch_search import note_budget
from nasray.tune.checkpoints import load_weights, newest_checkpoint, next_attempt, save_weights
from nasray.tune.energy.account import BudgetStopper, ClusterAccount
from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.energy.leases import STAGE_NAMES
from nasray.tune.progress import StageProgress
from nasray.tune.search_trial import SearchTask, SearchTrial
from nasray.tune.session import DriverCallback, Workers, run_trials
from nasray.tune.training_trial import Job, TrainingTask, TrainingTrial, data_parallel_trial, last_checkpoint


class RecordEvaluations(DriverCallback):
    """Writes a search's candidates to the run directory as its results come, and takes them out of the result."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Append the candidates of one iteration."""
        self._run.append_evaluations(result.pop("evaluations", []))


class Stages:
    """Runs stages, skips what an earlier run finished, and keeps the time of each.

    Args:
        run: The run directory.
        progress: Shown while a stage runs.
        account: Of the run's energy, started; each stage's trials are charged. Its budget ends searches early.
        reserve: What searches leave of the budget for later stages.
    """

    def __init__(
        self,
        run: RunDirectory,
        progress: StageProgress,
        account: ClusterAccount,
        *,
        reserve: Spending | None = None,
    ) -> None:
        self.run, self.progress, self.account, self._reserve = run, progress, account, reserve
        self.storage = (run.path / "ray").resolve()

    def done(self, stage: str) -> dict[str, Any]:
        """Return what a stage finished so far, by trial."""
        finished: dict[str, Any] = self.run.run.get("finished", {}).get(stage, {})
        return finished

    def finish(self, stage: str, name: str, outcome: Mapping[str, Any]) -> None:
        """Note a trial as finished."""
        finished = {key: dict(value) for key, value in self.run.run.get("finished", {}).items()}
        finished.setdefault(stage, {})[name] = dict(outcome)
        self.run.update(finished=finished)

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
        left = {name: job for name, job in jobs.items() if name not in self.done(stage)}
        tasks = {
            name: TrainingTask(job=job, data=data, workers=workers, storage=str(self.storage / "train"), stage=stage)
            for name, job in left.items()
        }
        if not tasks:
            return folders
        trainable = TrainingTrial if workers.count == 1 else data_parallel_trial
        total = sum(job.training.epochs for job in left.values())
        callback = self.progress.training(stage, total)
        results = self.run_stage(stage, trainable, tasks, workers, [callback])
        for name, result in results.items():
            folders[name].mkdir(parents=True, exist_ok=True)
            save_weights(folders[name], load_weights(last_checkpoint(result)))
            metrics = result.metrics or {}
            self.note_skipped(metrics.get("skipped_images", ()))
            kept = ("loss", "seconds", *metric_names)
            self.finish(stage, name, {key: metrics[key] for key in kept if key in metrics})
        return folders

    def search(self, tasks: Mapping[str, SearchTask]) -> dict[str, dict[str, Any]]:
        """Run every search that is not finished; returns the last result of each.

        A search that its budget ended is finished: its network is trained, and a resumed run does not search on.
        """
        stage = "search"
        left = {name: task for name, task in tasks.items() if name not in self.done(stage)}
        if left:
            callbacks = [RecordEvaluations(self.run), self.progress.search(len(left))]
            some = next(iter(left.values()))
            results = self.run_stage(stage, SearchTrial, left, some.workers, callbacks)
            keep = ("architecture", "accuracy", "cost", "initial_cost", "target", "num_samples", "iteration_of_search")
            for name, result in results.items():
                metrics = result.metrics or {}
                self.finish(stage, name, {key: metrics[key] for key in keep})
                if metrics["cost"] > metrics["target"]:
                    note_budget(self.run, self.account, self._reserve)
        return {name: self.done(stage)[name] for name in tasks}

    def _stopper(self, stage: str) -> BudgetStopper | None:
        # Each search goes on to its next result, so that there is a network to train.
        return BudgetStopper(self.account, self._reserve, waits_for_results=True) if stage == "search" else None

    def note_skipped(self, names: Sequence[str]) -> None:
        """Say and record which images could not be read, if any."""
        if names:
            text = f"{len(names)} unreadable image(s) skipped: {', '.join(names[:3])}."
            self.run.add_notice(text)
            self.progress.say(text)

    def timed(self, stage: str, device: str) -> _Timer:
        """Return a context whose time is recorded as a stage's."""
        return _Timer(self.run, stage, device)

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
            trainable: Takes the tasks by name as `tasks`; see `nasray.tune.session.run_trials`.
            tasks: By trial name, all with the same `resources()`.
            workers: Of each trial.
            callbacks: Told of results as they come.
            scheduler: May end trials early; None lets all run to their end.
        """
        resume = {name: found for name in tasks if (found := newest_checkpoint(self.storage, stage, name))}
        with self.timed(stage, workers.device), self.progress.shown():
            return run_trials(
                tune.with_parameters(trainable, tasks=dict(tasks)),
                list(tasks),
                stage=next_attempt(self.storage, stage),
                storage=self.storage,
                resources=next(iter(tasks.values())).resources(),
                stop=self._stopper(stage),
                callbacks=[EnergyCallback(stage=STAGE_NAMES.get(stage, stage), account=self.account), *callbacks],
                resume_from=resume,
                scheduler=scheduler,
            )


class _Timer:
    def __init__(self, run: RunDirectory, stage: str, device: str) -> None:
        self._run, self._stage, self._device = run, stage, device

    def __enter__(self) -> None:
        self._start, self._started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")

    def __exit__(self, *error: object) -> None:
        seconds = time.perf_counter() - self._start
        self._run.add_stage(self._stage, seconds, started=self._started, device=self._device)


def put_weights(folder: Path) -> ray.ObjectRef[Weights]:
    """Put stored weights into the object store, as numpy arrays (tensors are copied by every reader)."""
    weights: Weights = load_weights(folder)
    return ray.put(weights)
