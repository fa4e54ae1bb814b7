"""How a candidate's evaluation stands in the run's record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nasray.evaluation import Evaluation
from nasray.strategies.strategy import Trial, read_result

STAGE = "search"


def evaluation_row(trial: Trial, evaluation: Evaluation) -> dict[str, Any]:
    """Return the line of `evaluations.jsonl` for a candidate."""
    architecture = trial.architecture
    return {
        # With the architecture: after a crash, a candidate may get an id that another one had.
        "sample_id": f"{trial.trial_id}/{architecture.arch_id}",
        "arch_id": architecture.arch_id,
        "architecture": architecture.to_json(),
        "trial_id": trial.trial_id,
        "stage": STAGE,
        **evaluation.to_json(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def recorded_evaluation(row: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation that a line holds.

    Raises:
        ValueError: If the line lacks a part of it.
    """
    return read_result({key: row[key] for key in ("status", "metrics", "reason", "seconds") if key in row})
