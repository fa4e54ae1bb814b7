"""A search in which nothing succeeds any more ends, and says what the causes are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ray import tune

from nasray.causes import Cause, failure_causes, has_failed
from nasray.evaluation import Evaluation
from nasray.strategies.strategy import Trial
from nasray.tune.cli_errors import TrialError

if TYPE_CHECKING:
    from rich.table import Table

MEMORY_FACTOR = 3
"""How many times as many candidates in a row may run out of memory as may fail: large ones are a part of a space."""

_LEAST, _PER_WORKER = 10, 3


class TooManyFailuresError(TrialError):
    """Too many candidates in a row failed."""


class FailureLimit:
    """Counts candidates that fail in a row, since the last that was ok.

    Candidates that run out of memory are infeasible, but a search in which nothing fits goes nowhere either: so many
    and `MEMORY_FACTOR` times as many again may do so or fail. Those that break a limit neither count nor end a row.

    Args:
        most: How many candidates may fail in a row until the search ends; at least 1.

    Raises:
        ValueError: If it is less.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"`most` must be at least 1, got {most}. It is how many candidates may fail in a row.")
        self.most = most
        self._num_failed = 0
        self._row: list[dict[str, Any]] = []

    @classmethod
    def of(cls, most: int | None, num_workers: int) -> FailureLimit:
        """Return the given limit, or for None ten candidates or three for each worker, whichever is more."""
        return cls(max(_LEAST, _PER_WORKER * num_workers) if most is None else most)

    @property
    def is_reached(self) -> bool:
        """Whether the search should end."""
        return self._num_failed >= self.most or len(self._row) >= MEMORY_FACTOR * self.most

    def note(self, arch_id: str, evaluation: Evaluation) -> None:
        """Take an evaluation; once the limit is reached nothing changes that."""
        if self.is_reached:
            return
        if evaluation.status == "ok":
            self._num_failed, self._row = 0, []
        elif has_failed(evaluation.status, evaluation.reason):
            self._num_failed += evaluation.status == "failed"
            self._row.append({"arch_id": arch_id, "status": evaluation.status, "reason": evaluation.reason})

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Take an evaluation as `StrategySearcher(record=...)` gives it."""
        self.note(trial.architecture.arch_id, evaluation)

    def raise_if_reached(self) -> None:
        """End the search if it should end.

        Raises:
            TooManyFailuresError: Then, with the cause of most of the failures.
        """
        if self.is_reached:
            causes = failure_causes(self._row)
            more = f" and {len(causes) - 1} more cause(s)" if len(causes) > 1 else ""
            raise TooManyFailuresError(
                f"The search was ended after {len(self._row)} failed candidates in a row: {causes[0].reason} "
                f"({causes[0].count} of them, such as {causes[0].arch_id}){more}. {causes[0].remedy}"
            )


class FailureStopper(tune.Stopper):
    """Ends an experiment when too many candidates in a row failed.

    Args:
        limit: Told of every evaluation, as by `StrategySearcher(record=limit)`.
    """

    def __init__(self, limit: FailureLimit) -> None:
        self._limit = limit

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never end a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to end the experiment."""
        return self._limit.is_reached


def failure_table(causes: Iterable[Cause]) -> Table:
    """Return a table of causes for the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Failed candidates")
    table.add_column("Count", justify="right")
    for head in ("Status", "Reason", "Example", "Remedy"):
        table.add_column(head, overflow="fold")
    for cause in causes:
        cells = (str(cause.count), cause.status, cause.reason, cause.arch_id, cause.remedy)
        table.add_row(*map(Text, cells))
    return table
