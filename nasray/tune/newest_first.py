"""Which waiting trial gets a free actor, so that actors that are just starting are left alone."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler


class NewestTrialFirst(FIFOScheduler):
    """Gives an actor that became free to the newest waiting trial, for searches with `reuse_actors=True`.

    When a worker died, the trial in its place waits for a new actor. Ray would hand it the next actor that becomes
    free and throw away the one that is starting, for which the next trial then begins anew: while candidates end more
    often than an actor needs to start, no actor ever does, and every death costs a worker for good. The newest trial
    first, the older one keeps its starting actor.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waiting: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Note a new trial."""
        self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the newest trial that has not started, or None."""
        self._waiting = [trial for trial in self._waiting if trial.status == "PENDING"]
        return self._waiting[-1] if self._waiting else None

    def debug_string(self) -> str:
        """Return how many trials wait."""
        return f"Newest trial first: {len(self._waiting)} waiting"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_waiting": []}
