"""How an evaluation stands in an Optuna trial, and a trial in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.objectives import Constraint

_STATUS = "status"
_NOTES = ("arch_id", "duplicate_of", _STATUS, "reason", "evaluation_s")


def finish(
    study: optuna.Study,
    trial: optuna.Trial,
    architecture: Architecture,
    evaluation: Evaluation | None,
    *,
    formulation: Formulation,
    duplicate_of: int | None,
) -> FrozenTrial:
    """Tell a trial and return it as it then stands.

    Args:
        study: What the trial belongs to.
        trial: That an architecture was asked with.
        architecture: Its canonical form.
        evaluation: What came of it; None where the same architecture is still being evaluated.
        formulation: Names objectives and constraints.
        duplicate_of: Number of the trial whose evaluation this is.
    """
    notes: dict[str, Any] = {"arch_id": architecture.arch_id, "duplicate_of": duplicate_of}
    values = None
    if evaluation is None:
        notes["reason"] = "this architecture is being evaluated"
    else:
        values = _values(evaluation, formulation)
        notes |= {_STATUS: evaluation.status, "reason": evaluation.reason, "evaluation_s": evaluation.seconds}
        told = {objective.name for objective in formulation.objectives} if values else set()
        notes |= {name: value for name, value in evaluation.metrics.items() if name not in told}
        for constraint in dict.fromkeys(formulation.constraints) if values else ():
            trial.set_constraint(str(constraint), _excess(constraint, evaluation.metrics))
    for name, value in notes.items():
        # Browsers cannot read NaN; a failed evaluation may have such a metric.
        if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            trial.set_user_attr(name, value)
    return study.tell(trial, values, state=None if values else TrialState.FAIL)


def was_evaluated(trial: FrozenTrial) -> bool:
    """Return whether something came of a trial; not of one that a killed process left, or a duplicate of such."""
    return bool(trial.params) and (trial.state == TrialState.COMPLETE or _STATUS in trial.user_attrs)


def evaluation_of(trial: FrozenTrial, formulation: Formulation) -> Evaluation:
    """Return what `finish` told, or what another program told of a trial of the same choices."""
    attributes = trial.user_attrs
    metrics = {
        name: float(value)
        for name, value in attributes.items()
        if name not in _NOTES and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    metrics |= dict(zip([o.name for o in formulation.objectives], trial.values or (), strict=False))
    return Evaluation(
        status=attributes.get(_STATUS, "ok"),
        metrics=metrics,
        reason=attributes.get("reason"),
        seconds=attributes.get("evaluation_s", 0.0),
    )


def trial_to_json(trial: FrozenTrial) -> dict[str, Any]:
    """Return what a sampler reads of a trial."""
    return {
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
    }


def trial_from_json(saved: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Read what `trial_to_json` gave."""
    fields = {**saved, "state": TrialState[saved["state"]]}
    return optuna.create_trial(distributions=dict(distributions), **fields)


def _values(evaluation: Evaluation, formulation: Formulation) -> list[float] | None:
    """Return what a sampler can learn of an evaluation; None if that is nothing."""
    metrics = evaluation.metrics
    is_complete = all(math.isfinite(metrics.get(name, math.nan)) for name in formulation.metrics)
    if evaluation.status == "failed" or not is_complete:
        return None
    if evaluation.status == "infeasible" and formulation.violation(metrics) <= 0:
        return None  # infeasible for a reason that no constraint tells
    return [float(metrics[objective.name]) for objective in formulation.objectives]


def _excess(constraint: Constraint, metrics: Mapping[str, float]) -> float:
    """Return by what share of its size a limit is exceeded; negative where it is met, so that a model has a slope."""
    excess = metrics[constraint.metric] - constraint.limit
    return (excess if constraint.relation == "<=" else -excess) / (abs(constraint.limit) or 1.0)
