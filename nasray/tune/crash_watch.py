"""Why trials crashed, and an end for those that hang where nothing in their own process can end them."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from nasray.failures import OUT_OF_MEMORY, TIME_OUT, Failure, failure_of
from nasray.tune.deadline import GRACE_S, check_timeout, took_longer
from nasray.tune.driver_callback import DriverCallback

_MEMORY_MONITOR = ("running low on memory", "memory monitor", "OutOfMemoryError")
_DIED = "the worker died, perhaps killed by the system because memory ran out"


class CrashWatch(DriverCallback):
    """Knows why a trial crashed, for `StrategySearcher(crash_of=watch.crash)`; belongs to the Tuner's callbacks.

    A trial whose worker died after its time was up took too long, whoever ended it: the worker itself (see `deadline`),
    or this callback, if the worker does not even manage that.

    Args:
        timeout_s: How long a trial may take, in seconds from when its worker is ready; None for no limit.
        grace_s: How much longer until its worker is killed; the worker's own end comes first, after half of it.

    Raises:
        ValueError: If a time is not positive.
    """

    def __init__(self, timeout_s: float | None = None, *, grace_s: float = 2 * GRACE_S) -> None:
        check_timeout(timeout_s)
        self._timeout_s, self._grace_s = timeout_s, grace_s
        self._started_s: dict[str, float] = {}
        self._trials: Sequence[Any] = ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note when a trial begins; its worker is ready."""
        self._started_s[trial.trial_id] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Forget a trial."""
        self._started_s.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Forget a trial."""
        self._started_s.pop(trial.trial_id, None)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Kill the workers of trials that are long over their time."""
        self._trials = trials
        if self._timeout_s is None:
            return
        overdue = [key for key in self._started_s if self._seconds(key) > self._timeout_s + self._grace_s]
        for trial in (trial for trial in trials if trial.trial_id in overdue):
            if (actor := trial.temporary_state.ray_actor) is not None:
                ray.kill(actor)

    def crash(self, trial_id: str) -> Failure | None:
        """Return what a crash that Ray just noticed says about the candidate; None if nothing is known."""
        error = self._error(trial_id)
        if self._timeout_s is not None and self._seconds(trial_id) >= self._timeout_s:
            return Failure(reason=f"{TIME_OUT}: {took_longer(self._timeout_s)}", is_expected=True)
        return None if error is None else crash_failure(error)

    def _seconds(self, trial_id: str) -> float:
        started_s = self._started_s.get(trial_id)
        return 0.0 if started_s is None else time.monotonic() - started_s

    def _error(self, trial_id: str) -> BaseException | None:
        trial = next((trial for trial in reversed(self._trials) if trial.trial_id == trial_id), None)
        return None if trial is None else kept_error(trial)


def kept_error(trial: Any) -> BaseException | None:
    """Return the error that Ray kept of a trial: this process wrote it a moment ago, into Ray's session folder."""
    file = trial.pickled_error_file
    try:
        error = None if file is None else pickle.loads(Path(file).read_bytes())
    except Exception:  # the class of an error may exist in the worker alone
        return None
    return error if isinstance(error, BaseException) else None


def crash_failure(error: BaseException) -> Failure:
    """Return what the error that ended a trial says about its candidate; other tries may end otherwise."""
    cause = getattr(error, "cause", None)
    if isinstance(error, RayActorError):
        text = str(error)
        if any(part in text for part in _MEMORY_MONITOR):
            return Failure(status="infeasible", reason=f"{OUT_OF_MEMORY}: Ray ended the worker", is_final=False)
        if not error.actor_init_failed:
            return Failure(reason=_DIED, is_final=False)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Failure(reason=f"the worker could not start: {lines[-1]}", is_final=False)
    failure = failure_of(cause if isinstance(cause, BaseException) else error)
    return Failure(status=failure.status, reason=failure.reason, is_expected=failure.is_expected, is_final=False)
