"""One candidate as one Tune trial; its actor goes on to the next candidate with the same evaluator."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ray import tune

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.tune.candidate_result import candidate_architecture, write_evaluation
from nasray.tune.deadline import GRACE_S, deadline

Evaluate = Callable[[Architecture], Evaluation]
EvaluatorFactory = Callable[[], Evaluate]

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class CandidateTrial(tune.Trainable):
    """Evaluates the architecture in its configuration, in one step, and reports a full row whatever comes of it.

    Give the parameters through `tune.with_parameters` and set `reuse_actors=True`: then the evaluator is made once per
    actor. What candidates are expected to do wrong (running out of memory or time, diverging) becomes a failed
    evaluation; any other error ends the trial, and `StrategySearcher` tries the candidate again.
    """

    def setup(
        self,
        config: dict[str, Any],
        evaluator_factory: EvaluatorFactory | None = None,
        metrics: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> None:
        """Make the evaluator.

        Args:
            config: Of the first trial.
            evaluator_factory: Makes what evaluates an architecture; called in the actor.
            metrics: Metrics that every row has, NaN where an evaluation lacks them.
            timeout_s: How long an evaluation may take, in seconds.

        Raises:
            ValueError: If there is no factory.
        """
        if evaluator_factory is None:
            raise ValueError("`evaluator_factory` must be given, got none. Use tune.with_parameters.")
        self._evaluate, self._metrics, self._timeout_s = evaluator_factory(), tuple(metrics), timeout_s

    def step(self) -> dict[str, Any]:
        """Evaluate the candidate."""
        evaluation = evaluate_candidate(self._evaluate, candidate_architecture(self.config), self._timeout_s)
        return write_evaluation(evaluation, self._metrics) | {"done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next candidate; nothing is left of the last one."""
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: a candidate that is interrupted is evaluated anew."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing."""


def evaluate_candidate(
    evaluate: Evaluate, architecture: Architecture, timeout_s: float | None = None, *, grace_s: float = GRACE_S
) -> Evaluation:
    """Evaluate an architecture; what candidates are expected to do wrong becomes a failed evaluation.

    These are: no memory left (in Python, torch or on the GPU), a training that diverged, and more time than allowed.
    Freed memory is given back, so that the next candidate does not suffer.

    Args:
        evaluate: What to call.
        architecture: What to evaluate.
        timeout_s: How long it may take, in seconds; None for no limit.
        grace_s: How much longer native code may take before the process is ended; see `deadline`.

    Returns:
        The evaluation, with the time that it took unless it says so itself.

    Raises:
        Exception: Whatever else the evaluation raises.
    """
    start = time.perf_counter()
    try:
        with deadline(timeout_s, grace_s=grace_s):
            evaluation = evaluate(architecture)
    except Exception as error:
        reason = _expected(error)
        if reason is None:
            raise
        evaluation = Evaluation(status="failed", reason=reason)
    if evaluation.status == "failed":
        _free_memory()
    return replace(evaluation, seconds=evaluation.seconds or time.perf_counter() - start)


def _expected(error: Exception) -> str | None:
    """Return why a candidate failed, or None for an error that is not the candidate's own."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, TimeoutError):
        return f"time-out: {text}"
    is_memory = isinstance(error, RuntimeError) and any(part in text.lower() for part in _OUT_OF_MEMORY)
    if is_memory or isinstance(error, (MemoryError, *_raised_by("torch", "OutOfMemoryError"))):
        return f"out of memory: {text or 'no details'}"
    if isinstance(error, _raised_by("nasray.training.trainer", "DivergedError")):
        return f"diverged: {text}"
    return None


def _raised_by(module: str, name: str) -> tuple[type[Exception], ...]:
    """Return an error class of a module, or none if nobody imported it: torch takes seconds in each actor."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
