"""A run's evaluations as one table: a row per sample, a column per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.quantities import QUANTITIES

if TYPE_CHECKING:
    import pandas as pd

_TEXT_COLUMNS = ("sample_id", "arch_id", "trial_id", "status", "stage", "reason", "cost_name")
_NUMBER_COLUMNS = ("iteration", "budget", "cost")

_MOST_SEARCHES = 1

ALL_TRIALS = ""
"""Stands for all trials together where a trial is named."""


def evaluations_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate evaluations.

    Args:
        rows: Evaluation records; what one lacks becomes "" or NaN.

    Returns:
        One row per evaluation with the record's own columns, `selected` as a truth value, and one column of
        floats per metric.
    """
    import pandas as pd

    defaults = {"trial_id": "run", "stage": "search"}
    columns: dict[str, Any] = {
        name: [str(row.get(name) or defaults.get(name, "")) for row in rows] for name in _TEXT_COLUMNS
    }
    columns |= {name: _numbers([row.get(name) for row in rows]) for name in _NUMBER_COLUMNS}
    if len(set(columns["trial_id"])) == len(rows) > _MOST_SEARCHES:
        columns["trial_id"] = ["search"] * len(rows)  # a trial of its own for each candidate tells searches not apart
    columns["selected"] = [row.get("selected") is True for row in rows]
    metrics = [row.get("metrics") or {} for row in rows]
    for name in dict.fromkeys(name for row in metrics for name in row):
        columns.setdefault(name, _numbers([row.get(name) for row in metrics]))
    columns.setdefault("accuracy", _numbers([None] * len(rows)))
    return pd.DataFrame(columns)


def search_samples(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the search's evaluations that are ok and have an accuracy: what can be drawn and compared."""
    return frame[(frame["status"] == "ok") & (frame["stage"] == "search") & frame["accuracy"].notna()]


def cost_names(frame: pd.DataFrame) -> list[str]:
    """Return the metrics, besides accuracy, that any row has: the known ones first, then by name."""
    known = list(QUANTITIES)
    taken = {*_TEXT_COLUMNS, *_NUMBER_COLUMNS, "selected"}
    others = {name for name in frame.columns if name not in taken and "accuracy" not in name}
    measured = [name for name in others if frame[name].notna().any()]
    return sorted(measured, key=lambda name: (known.index(name) if name in known else len(known), name))


def trial_names(frame: pd.DataFrame) -> list[str]:
    """Return the trials in the order in which they first appear."""
    return [str(name) for name in frame["trial_id"].unique()]


def trajectory_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the best sample of each iteration, by trial and iteration.

    A repeated iteration (a resumed run does its last one again) keeps its latest choice.
    """
    chosen = frame[frame["selected"] & frame["iteration"].notna()]
    latest = chosen.drop_duplicates(["trial_id", "iteration"], keep="last")
    return latest.sort_values("iteration", kind="stable")


def _numbers(values: list[Any]) -> pd.Series[float]:
    import numpy as np
    import pandas as pd

    numbers = pd.Series(pd.to_numeric(pd.Series(values, dtype=object), errors="coerce"), dtype=float)
    return numbers.replace([np.inf, -np.inf], np.nan)
