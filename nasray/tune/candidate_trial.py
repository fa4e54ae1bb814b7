"""One candidate as one Tune trial; its actor goes on to the next candidate with the same evaluator."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from nasray.architecture import Architecture
from nasray.carbon.lease import OVERHEAD
from nasray.evaluation import Evaluation
from nasray.failures import TIME_OUT, attempt
from nasray.tune.candidate_result import candidate_architecture, write_evaluation
from nasray.tune.deadline import GRACE_S, deadline
from nasray.tune.energy.leases import open_lease_here

Evaluate = Callable[[Architecture], Evaluation]
EvaluatorFactory = Callable[[], Evaluate]

TRACEBACK = "traceback"
START_UP = "start-up of workers"


class CandidateTrial(tune.Trainable):
    """Evaluates the architecture in its configuration, in one step, and reports a full row whatever comes of it.

    Give the parameters through `tune.with_parameters` and set `reuse_actors=True`: then the evaluator is made once per
    actor, and anew after a candidate that took too long. What is wrong with a candidate becomes an evaluation that says
    so, and the actor goes on; an error for which the actor may be to blame ends the trial, and `StrategySearcher` tries
    the candidate again with a new one.
    """

    def setup(
        self,
        config: dict[str, Any],
        evaluator_factory: EvaluatorFactory | None = None,
        metrics: Sequence[str] = (),
        timeout_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        """Make the evaluator.

        Args:
            config: Of the first trial.
            evaluator_factory: Makes what evaluates an architecture; called in the actor.
            metrics: Metrics that every row has, NaN where an evaluation lacks them.
            timeout_s: How long an evaluation may take, in seconds.
            grace_s: How much longer native code may take before the actor ends itself; see `deadline`.

        Raises:
            ValueError: If there is no factory.
        """
        if evaluator_factory is None:
            raise ValueError("`evaluator_factory` must be given, got none. Use tune.with_parameters.")
        # No candidate is charged for what the actor needs once; its first lease ends this one.
        open_lease_here(OVERHEAD, START_UP)
        self._factory, self._evaluate, self._metrics = evaluator_factory, evaluator_factory(), tuple(metrics)
        self._timeout_s, self._grace_s = timeout_s, grace_s

    def step(self) -> dict[str, Any]:
        """Evaluate the candidate; a bug that it met is in the result, and so in Ray's log of the trial."""
        bugs: list[str] = []
        evaluation = evaluate_candidate(
            self._evaluate,
            candidate_architecture(self.config),
            self._timeout_s,
            grace_s=self._grace_s,
            on_bug=lambda error: bugs.append("".join(traceback.format_exception(error))),
        )
        if (evaluation.reason or "").startswith(TIME_OUT):
            self._evaluate = self._factory()  # what was interrupted anywhere may be in disorder
        result = write_evaluation(evaluation, self._metrics) | {"done": True}
        return result | ({TRACEBACK: bugs[0]} if bugs else {})

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next candidate; nothing is left of the last one."""
        return True

    def reset(self, new_config: dict[str, Any], storage: Any = None) -> bool:
        """Take the next candidate as Ray has it, and remove the working folder of the last one if nothing is in it."""
        before = Path(self.logdir)
        is_done = bool(super().reset(new_config, storage))  # type: ignore[no-untyped-call]
        if before != Path(self.logdir):
            with contextlib.suppress(OSError):
                before.rmdir()
        return is_done

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: a candidate that is interrupted is evaluated anew."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing."""


def evaluate_candidate(
    evaluate: Evaluate,
    architecture: Architecture,
    timeout_s: float | None = None,
    *,
    grace_s: float = GRACE_S,
    on_bug: Callable[[Exception], None] | None = None,
) -> Evaluation:
    """Evaluate an architecture; whatever goes wrong with it becomes an evaluation that says so.

    No memory left, more time than allowed, a training that diverged, an error in the evaluation and a result that is no
    `Evaluation` are the candidate's own; see `nasray.failures`. What it took is given back.

    Args:
        evaluate: What to call.
        architecture: What to evaluate.
        timeout_s: How long it may take, in seconds; None for no limit.
        grace_s: How much longer native code may take before the process is ended; see `deadline`.
        on_bug: Told of an error that candidates are not expected to have.

    Returns:
        The evaluation, with the time that it took unless it says so itself.

    Raises:
        Exception: If the worker may be to blame: errors of its GPU, of files and of Ray.
    """

    def work() -> Evaluation:
        with deadline(timeout_s, grace_s=grace_s):
            found: Any = evaluate(architecture)
        if not isinstance(found, Evaluation):
            kind = "None" if found is None else f"a {type(found).__name__}"
            return Evaluation(status="failed", reason=f"the evaluator returned {kind} instead of an Evaluation")
        return found

    start = time.perf_counter()
    evaluation = attempt(work, on_bug=on_bug or _ignore)
    return replace(evaluation, seconds=evaluation.seconds or time.perf_counter() - start)


def _ignore(error: Exception) -> None:
    """The evaluation's reason says it."""
