"""Callbacks that live in the driver alone."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.logger import JsonLoggerCallback


class DriverCallback(tune.Callback):
    """A callback with things of this process in it; Ray pickles callbacks for a restore that we never make."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialLogs(JsonLoggerCallback):
    """Ray's log of each trial; Ray itself leaves those open whose trials it did not see end."""

    def close(self) -> None:
        """Close what is open."""
        for trial in list(self._trial_files):
            self.log_trial_end(trial)
