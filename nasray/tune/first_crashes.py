"""A search whose first trials all crash ends: then it is not the candidates."""

from __future__ import annotations

from nasray.failures import Failure
from nasray.tune.cli_errors import TrialError

HOPELESS, _PER_RUNNING = 10, 3
"""Crashes before the first result that end a search: so many at least, and some for each trial that goes on, as one
bad node crashes many before the others' first results."""


class FirstCrashes:
    """Counts crashes until there is a result."""

    def __init__(self) -> None:
        self._count: int | None = 0

    def end(self) -> None:
        """Count no more: a trial gave a result."""
        self._count = None

    def note(self, trial_id: str, failure: Failure | None, num_running: int) -> TrialError | None:
        """Count a crash.

        Args:
            trial_id: Of the trial that crashed.
            failure: What is known of it.
            num_running: Trials that go on.

        Returns:
            The error that ends the search, if there were too many.
        """
        if self._count is None:
            return None
        self._count += 1
        if self._count < max(HOPELESS, _PER_RUNNING * num_running):
            return None
        why = f": {failure.reason}" if failure else ""
        return TrialError(f"All of the first {self._count} trials crashed{why}. See error.txt of trial {trial_id}.")
