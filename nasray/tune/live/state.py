"""The figures of a run while it goes on; whoever shows them reads them here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from nasray.carbon.account import EnergyAccount
from nasray.carbon.budget import Spending
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.tune.live.front import LiveFront
from nasray.tune.live.power import PowerReadings

_REFRESH_S = 1.0
_SHARE = 0.002
"""Most of the process's time that goes into adding up what was spent."""


class LiveRun:
    """Takes what happens in a run, and knows how it stands. What is unknown is None, or left out.

    A view may read the attributes from another thread: each is replaced as a whole.

    Args:
        clock: Seconds, only forward.

    Attributes:
        name: The run's name.
        stage: What is being done.
        done: Share of the stage that is done.
        evaluations: How many evaluations there are, by status; each sample counts once.
        best_accuracy: Best accuracy of an evaluation that is ok, a fraction.
        hypervolume: What the front dominates, see `LiveFront.hypervolume`.
        spending: Hours, energy and carbon so far.
        budget_left: Share of each limit that is left, by its name in `Budget`.
        workers: Busy workers, and how many there are.
        queue: Candidates or trials that wait for a worker.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name: str | None = None
        self.stage: str | None = None
        self.done: float | None = None
        self.evaluations: Mapping[str, int] = {}
        self.best_accuracy: float | None = None
        self.hypervolume: float | None = None
        self.spending: Spending | None = None
        self.budget_left: Mapping[str, float] = {}
        self.workers: tuple[int, int] | None = None
        self.queue: int | None = None
        self.power = PowerReadings(clock=clock)
        self._clock, self._next_s = clock, clock()
        self._account: EnergyAccount | None = None
        self._front: LiveFront | None = None
        self._seen: set[str] = set()

    @property
    def front_size(self) -> int | None:
        """Points on the front; None where nothing is searched for."""
        return None if self._front is None else self._front.size

    @property
    def power_w(self) -> float | None:
        """Power of all nodes together, in W, as far as it is known."""
        nodes_w = self.power.nodes_w()
        return sum(nodes_w.values()) if nodes_w else None

    def follow(self, name: str, account: EnergyAccount | None) -> None:
        """Begin with a run, or go on with it under another account."""
        self.name = name
        if account is not None and account is not self._account:
            account.watch(self.power.take)
            self._account, self._next_s = account, self._clock()

    def aim(self, formulation: Formulation) -> None:
        """Compare evaluations by these objectives from now on; the same ones go on as they were."""
        self._front = LiveFront(formulation)

    def add(self, sample_id: str, evaluation: Evaluation) -> None:
        """Count an evaluation, unless it was counted before."""
        if sample_id in self._seen:
            return
        self._seen.add(sample_id)
        status = evaluation.status
        self.evaluations = {**self.evaluations, status: self.evaluations.get(status, 0) + 1}
        if status != "ok":
            return
        if self._front is not None:
            self._front.add(evaluation.metrics)
        accuracy = evaluation.metrics.get("accuracy")
        if accuracy is not None and (self.best_accuracy is None or accuracy > self.best_accuracy):
            self.best_accuracy = accuracy

    def refresh(self) -> bool:
        """Work out what takes a while, about once a second whenever called more often; returns whether it did."""
        start_s = self._clock()
        if start_s < self._next_s:
            return False
        if self._account is not None:
            spending = self._account.spending()
            self.spending = spending
            self.budget_left = _left(self._account, spending)
        if self._front is not None:
            self.hypervolume = self._front.hypervolume()
        self._next_s = start_s + max(_REFRESH_S, (self._clock() - start_s) / _SHARE)
        return True


def _left(account: EnergyAccount, spending: Spending) -> dict[str, float]:
    shares = account.budget.shares(spending)
    return {kind: max(0.0, 1.0 - share) for kind, share in shares.items() if share is not None}
