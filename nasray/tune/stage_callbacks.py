"""What the driver does while the trials of a stage run: record, take finished weights, copy records away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from nasray.records import DiskError, RunDirectory
from nasray.tune.disk_space import DiskWatch
from nasray.tune.driver_callback import DriverCallback
from nasray.tune.run_storage import RunStorage


class RecordEvaluations(DriverCallback):
    """Writes a search's candidates to the run directory as its results come, and takes them out of the result.

    Args:
        run: The run directory.
        storage: Where its records are copied to: before the trial's next checkpoint, which has one iteration's rows.
    """

    def __init__(self, run: RunDirectory, storage: RunStorage | None = None) -> None:
        self._run, self._storage = run, storage

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Append the candidates of one iteration."""
        self._run.append_evaluations(result.pop("evaluations", []))
        if self._storage is not None:
            self._storage.push()


class TakeWeights(DriverCallback):
    """Has the weights of every training taken as it ends, so that its checkpoints need not stay until all have.

    Args:
        take: What takes them, given a trial's name and its last result.
        watch: Told if they cannot be written: an error here would be, to Ray, one of the trial.
    """

    def __init__(self, take: Callable[[str, tune.Result], None], watch: DiskWatch) -> None:
        self._take, self._watch = take, watch

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take the weights, if the training was not ended before its time."""
        result = trial.last_result or {}
        if "epoch" not in result or result["epoch"] < result["num_epochs"]:
            return
        found = tune.Result(metrics=result, checkpoint=trial.checkpoint, error=None, path=trial.path)
        try:
            self._take(trial.config["trial"]["name"], found)
        except DiskError as error:
            self._watch.note(error)


class CopyRecords(DriverCallback):
    """Copies the records to a storage now and then, between two events, when nothing is half written."""

    def __init__(self, storage: RunStorage) -> None:
        self._storage = storage

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Copy if it is time."""
        self._storage.push_if_due()
