"""Trials that ended are forgotten, so that the last of very many costs what the first one did."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback

from nasray.tune.candidate_trial import TRACEBACK
from nasray.tune.driver_callback import TrialLogs
from nasray.tune.newest_first import NewestTrialFirst

_HOLDERS = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")


class ForgetEndedTrials(NewestTrialFirst):
    """Gives free actors to the newest trial, and has Ray forget trials that ended.

    Ray keeps every trial of an experiment in memory, looks at each of them in every step, writes all of them at every
    snapshot and copies all of their folders. Whoever uses this scheduler keeps a record of results elsewhere: the
    ResultGrid lacks those trials, and `Tuner.restore` does not know them.

    Ray offers no way to drop a trial. This one empties what Ray 2.50 to 2.60 keeps them in; of a Ray that keeps them in
    something else it forgets less, and nothing breaks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended: list[Any] = []
        self._controller: Any = None

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note a trial that is about to end."""
        self._note(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note a trial that is about to end, or to be tried again."""
        self._note(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Note a trial that is about to end without having run."""
        self._note(tune_controller, trial)

    def _note(self, tune_controller: Any, trial: Any) -> None:
        # At an end Ray shows the controller itself; elsewhere, one that hides what it keeps.
        self._controller = tune_controller
        self._ended.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the newest trial that has not started, or None; Ray has done with what ended before."""
        self._ended = [trial for trial in self._ended if not self._forget(trial)]
        return super().choose_trial_to_run(tune_controller)

    def _forget(self, trial: Any) -> bool:
        """Drop a trial, unless an actor still works for it; return whether nothing is left to do."""
        if not trial.is_finished():
            return bool(trial.status == "PENDING")  # it is tried again
        if trial in getattr(self._controller, "_trial_to_actor", ()):
            return False
        trials = getattr(self._controller, "_trials", [])
        if trial in trials:
            trials.remove(trial)
        for name in _HOLDERS:
            getattr(self._controller, name, set()).discard(trial)
        getattr(self._controller, "_trial_metadata", {}).pop(trial.trial_id, None)
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ended": [], "_controller": None}


class BugLogs(TrialLogs):
    """Ray's logs of the trials that met a bug; the others' folders are removed, unless something else is in them.

    The results themselves are for others to record.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._experiment: Path | None = None

    def log_trial_start(self, trial: Any) -> None:
        """Wait for the result."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log a result that holds a traceback."""
        if TRACEBACK in result:
            super().log_trial_start(trial)
            super().log_trial_result(iteration, trial, result)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Close the log, if there is one, and forget the trial."""
        super().log_trial_end(trial, failed)
        self._trial_configs.pop(trial, None)
        _remove_if_empty(Path(trial.local_path))
        _remove_if_empty(Path(trial.path))
        self._experiment = Path(trial.path).parent

    def close(self) -> None:
        """Close what is open, and remove empty folders that Ray copied while their trials went on."""
        super().close()
        if self._experiment is not None and self._experiment.is_dir():
            for folder in filter(Path.is_dir, list(self._experiment.iterdir())):
                _remove_if_empty(folder)


class NoTrialLines(TrialProgressCallback):
    """Takes the place of the callback that Ray adds if there is none, and which keeps every trial it saw.

    That one prints a line for each result and end, which a search of many does without.
    """

    def __init__(self) -> None:
        super().__init__()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Print nothing."""

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print nothing."""


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds an error or a log, or is not there
        folder.rmdir()
