"""How a candidate travels in a trial's configuration, and its evaluation in the trial's result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation, metric_fault, metric_number
from nasray.reading import parse_json
from nasray.strategies.strategy import Strategy, Trial

CANDIDATE_ID, ARCHITECTURE = "candidate_id", "architecture"
STATUS, REASON, SECONDS, METRICS = "status", "reason", "seconds", "metrics"
RESERVED = frozenset({CANDIDATE_ID, ARCHITECTURE, STATUS, REASON, SECONDS, METRICS, "config", "done", "trial_id"})
"""Names in a trial's result that no metric may have."""


ADDED = ("energy_j", "carbon_g", "lifetime_carbon_g", "latency_ms", "memory_bytes")
"""Metrics that callbacks add to a result, beside what the trial reports."""

_NOT_REPORTED = RESERVED | {*AUTO_RESULT_KEYS, *ADDED, "experiment_tag", "energy_quality", "hardware_cost_error"}


def candidate_config(candidate: Trial) -> dict[str, str]:
    """Return the configuration of a trial that evaluates a candidate; the architecture is JSON text."""
    return {CANDIDATE_ID: candidate.trial_id, ARCHITECTURE: architecture_text(candidate.architecture)}


def candidate_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a trial has to evaluate."""
    return Architecture.from_json(parse_json(config[ARCHITECTURE]))


def architecture_text(architecture: Architecture) -> str:
    """Return an architecture as JSON on one line; the same architecture always gives the same text."""
    return json.dumps(architecture.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def required_metrics(strategy: Strategy, metrics: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the metrics that a candidate's result must have: the given ones, or those of the strategy's formulation.

    Raises:
        ValueError: If there are none, or one has a name that results use for something else.
    """
    found = getattr(getattr(strategy, "formulation", None), "metrics", ()) if metrics is None else metrics
    if not found:
        raise ValueError(f"`metrics` must name what {type(strategy).__name__} is told, got none. Pass metrics=[...].")
    if reserved := sorted(RESERVED.intersection(found)):
        raise ValueError(f"`metrics` must not be named {', '.join(sorted(RESERVED))}, got {reserved}. Rename them.")
    return tuple(found)


def write_evaluation(evaluation: Evaluation, metrics: Iterable[str]) -> dict[str, Any]:
    """Return an evaluation as a trial's result.

    The required metrics stand by their own names, NaN where they are missing, so that every result has the same
    columns and Ray finds the ones it was told of; all that was measured stands under `metrics`.
    """
    return {
        **{name: evaluation.metrics.get(name, math.nan) for name in metrics},
        STATUS: evaluation.status,
        REASON: evaluation.reason,
        SECONDS: evaluation.seconds,
        METRICS: dict(evaluation.metrics),
    }


def read_evaluation(result: Mapping[str, Any], metrics: Sequence[str]) -> Evaluation:
    """Read a trial's result, flattened as Ray flattens it, whether `write_evaluation` wrote it or somebody else.

    What an evaluation says itself counts: columns that Ray and callbacks add beside it, as the energy that a trial was
    charged, stand in for what it does not say.

    Returns:
        A failed evaluation if a required metric is missing or no finite number.
    """
    prefix = f"{METRICS}/"
    own = {key.removeprefix(prefix): value for key, value in result.items() if key.startswith(prefix)}
    columns = {name: result[name] for name in (*metrics, *ADDED) if name in result}
    if STATUS in result:  # `write_evaluation` fills the columns of what is missing with NaN
        columns = {name: value for name, value in columns.items() if name not in own and not _is_nan(value)}
    values = own | {name: value for name, value in columns.items() if name not in own or name not in ADDED}
    seconds = metric_number(result.get(SECONDS, result.get("time_total_s")))
    seconds = seconds if math.isfinite(seconds) else 0.0
    if (status := result.get(STATUS)) in ("failed", "infeasible"):
        reason = str(result.get(REASON) or "the trial gave no reason")
        return Evaluation(status=status, metrics=values, reason=reason, seconds=seconds)
    if faults := _faults(values, metrics, result):
        return Evaluation(status="failed", metrics=values, reason="; ".join(faults), seconds=seconds)
    numbers = {name: number for name, value in values.items() if math.isfinite(number := metric_number(value))}
    return Evaluation(metrics=numbers, seconds=seconds)


def _faults(values: Mapping[str, Any], metrics: Sequence[str], result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the required metrics."""
    faults = [fault for name in metrics if name in values and (fault := metric_fault(name, values[name]))]
    if missing := [name for name in metrics if name not in values]:
        # What is there shows a name that is spelled otherwise.
        found = sorted({*values, *(key for key in result if "/" not in key and key not in _NOT_REPORTED)} - {*metrics})
        but = f", but {', '.join(found[:5])}" if found else ""
        faults.append(f"the result has no {' and no '.join(missing)}{but}")
    return faults


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
