"""Bringing a searcher in line with the trials that Ray has after a restore."""

from __future__ import annotations

from typing import Any

from ray import tune

from nasray.tune.strategy_searcher import StrategySearcher


class ReconcileAfterRestore(tune.Callback):
    """Calls `StrategySearcher.reconcile` at the first step, for runs that `Tuner.restore` may continue."""

    def __init__(self, strategy_searcher: StrategySearcher) -> None:
        self._target, self._is_done = strategy_searcher, False

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Reconcile once."""
        if not self._is_done:
            self._target.reconcile(trials)
            self._is_done = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_is_done": False}
