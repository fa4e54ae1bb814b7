"""Candidates whose figures a user's own function gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, SupportsFloat

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.tune.candidate_search_run import run_search
from nasray.tune.energy.calibration import Calibration
from nasray.tune.problems.candidate_counter import CandidateCounter
from nasray.tune.problems.problem import Place, Problem, Work
from nasray.tune.session import ray_session
from nasray.tune.workers import Workers

Figures = Evaluation | Mapping[str, SupportsFloat]
EvaluationFunction = Callable[[Architecture], Figures]
"""Gives an architecture's metrics by name, numbers of any kind; what it raises is a failed evaluation."""


class FunctionProblem(Problem):
    """Candidates that a function evaluates, each in a trial of its own on Ray's workers.

    Args:
        space: What is searched.
        function: Takes an architecture and gives its metrics.
    """

    metrics = ()
    objectives = ()
    num_evaluations = 100

    def __init__(self, space: SearchSpace, function: EvaluationFunction) -> None:
        self.space, self._function = space, function

    def describe(self) -> list[str]:
        """Return what the function is called."""
        return [f"Candidates: {self.space.name}, evaluated by {_name(self._function)}."]

    def configuration(self) -> dict[str, Any]:
        """Return what the function is called: its code is not looked at."""
        choices = {name: list(options) for name, options in self.space.choices.items()}
        return {"network": self.space.name, "choices": choices, "function": _name(self._function)}

    def data(self) -> dict[str, Any]:
        """Return nothing: the function knows its data."""
        return {}

    def check(self, formulation: Formulation) -> None:
        """Take any metric; an evaluation that lacks one is a failed one."""

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Return nothing: a call may take minutes."""
        return []

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Evaluate candidates on as many workers as there are; nobody waits for anybody."""
        with (
            ray_session(place.cluster, place.progress.say),
            place.energy.account(place.run.path) as account,
            place.progress.shown(),
        ):
            workers, rows = Workers.available(place.num_workers), place.run.evaluations()
            bar = place.progress.bar("search", strategy.num_evaluations, done=len(rows))
            return run_search(
                strategy,
                partial(_evaluator, self._function),
                workers=workers,
                run=place.run,
                formulation=formulation,
                timeout_s=place.timeout_s,
                max_failures=place.max_failures,
                account=account,
                on_evaluation=CandidateCounter(bar, rows, formulation or strategy.formulation),
                progress=place.progress,
                storage=place.cluster.storage,
            )


def _evaluator(function: EvaluationFunction) -> Callable[[Architecture], Any]:
    return partial(_evaluate, function)


def _evaluate(function: EvaluationFunction, architecture: Architecture) -> Any:
    figures = function(architecture)
    if not isinstance(figures, Mapping):
        return figures  # an Evaluation; anything else is told as what it is
    return Evaluation.from_metrics(figures, 0.0)


def _name(function: EvaluationFunction) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
