"""The candidates as the page's script needs them: every figure once, in columns, for all plots together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nasray.architecture import Choice
from nasray.report.candidates import Candidates
from nasray.report.quantities import quantity

MOST_DRAWN = 1500
"""Candidates off the front that a plot draws, evenly over the run; more are slow to draw and show no more."""

_CODES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_CODE = "."
_MOST_TEXT = 1_600_000
"""Characters that choices may take; of a larger space the first choices stand there."""

_LETTERS = {"ok": "k", "infeasible": "i", "failed": "f"}
_MOST_TRIALS = 60


def candidate_data(candidates: Candidates, marks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the script draws from.

    Args:
        candidates: Of the run.
        marks: Networks to mark besides the front: `label`, `kind` ("initial", "found" or "trade-off") and `metrics`,
            of a trade-off also `arch_id` and `pair`, the two objectives that it is the best of.

    Returns:
        `metrics` (how to write each), `values` by metric, `ids`, `kinds` (a letter for each candidate), `choices` in
        letters and how many had no room (`unlisted`), `trials` and `trial` (an index each), `iteration`, `selected`,
        `marks`, `drawn`.
    """
    rows = candidates.rows
    trials = list(dict.fromkeys(str(row.get("trial_id") or "run") for row in rows))
    has_trials = 1 < len(trials) <= min(_MOST_TRIALS, len(rows) // 2)
    names = {trial: number for number, trial in enumerate(trials)}
    chosen = [choices_of(row) for row in rows]
    choices = _choices(chosen)
    return {
        "metrics": [_metric(candidates, name) for name in candidates.metrics],
        "values": {name: [_short(value) for value in values] for name, values in candidates.metrics.items()},
        "ids": [str(row.get("arch_id")) for row in rows],
        "kinds": "".join(_LETTERS[kind] for kind in candidates.kinds),
        "trials": trials if has_trials else [],
        "trial": [names[str(row.get("trial_id") or "run")] for row in rows] if has_trials else [],
        "iteration": [row.get("iteration") for row in rows] if any("iteration" in row for row in rows) else [],
        "selected": [number for number, row in enumerate(rows) if row.get("selected") is True],
        "choices": choices,
        "unlisted": len({name for row in chosen for name in row}) - len(choices),
        "marks": [dict(mark) for mark in marks],
        "drawn": MOST_DRAWN,
    }


def _metric(candidates: Candidates, name: str) -> dict[str, Any]:
    shown = quantity(name)
    objective = next((objective for objective in candidates.objectives if objective.name == name), None)
    return {
        "name": name,
        "label": shown.label,
        "unit": shown.unit,
        "tick": shown.tick_format,
        "more": candidates.direction(name) == "maximize",
        "ideal": None if objective is None else _ideal(objective.best_value, objective.sign),
        "objective": objective is not None,
    }


def _ideal(best_value: float | None, sign: float) -> float | None:
    return None if best_value is None else sign * best_value


def choices_of(row: Mapping[str, Any]) -> Mapping[str, Choice]:
    """Return what an evaluated architecture chose; nothing where that was not recorded."""
    architecture = row.get("architecture")
    choices = architecture.get("choices") if isinstance(architecture, Mapping) else None
    return choices if isinstance(choices, Mapping) else {}


def _choices(rows: Sequence[Mapping[str, Choice]]) -> list[dict[str, Any]]:
    """Return each choice that the candidates make, as far as they have room; see `_column`."""
    columns, size = [], 0
    for name in dict.fromkeys(name for row in rows for name in row):
        column = _column(name, rows)
        size += sum(len(column.get(key, "")) for key in ("codes", "rare"))
        size += sum(len(str(value)) + 3 for value in column.get("list", ()))
        if size > _MOST_TEXT:
            break
        columns.append(column)
    return columns


def _column(name: str, rows: Sequence[Mapping[str, Choice]]) -> dict[str, Any]:
    """Return a choice's values and which of them each candidate has.

    In `codes`, a letter for each candidate; or, if that is shorter, as the `usual` letter and the `rare` others, each
    as its distance from the one before in two letters, and its own. A choice with more values than letters has a
    `list`.
    """
    column = [row.get(name) for row in rows]
    values, numbers = numbered(column)
    if len(values) > len(_CODES):
        return {"name": name, "list": column}
    letters = [NO_CODE if value is None else _CODES[number] for number, value in enumerate(values)]
    codes = "".join([letters[number] for number in numbers])
    usual = Counter(codes).most_common(1)[0][0]
    rare = _rare(codes, usual)
    held = {"codes": codes} if len(codes) <= len(rare) else {"usual": usual, "rare": rare}
    return {"name": name, "values": values, **held}


def numbered(column: Sequence[Choice | None]) -> tuple[list[Choice | None], list[int]]:
    """Return the different values of a column, and the number of its value for each row; None stands for none.

    True, 1 and 1.0 are different.
    """
    keys: Sequence[Any] = column
    if len(set(map(type, column)) - {str, type(None)}) > 1:  # slower, and seldom needed
        keys = [(type(value), value) for value in column]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    values = list(numbers) if keys is column else [value for _, value in numbers]
    return values, [numbers[key] for key in keys]


def _rare(codes: str, usual: str) -> str:
    base, last, parts = len(_CODES), -1, []
    for at, code in enumerate(codes):
        if code != usual or at - last == base**2 - 1:  # a longer distance has no two letters
            parts.append(_CODES[(at - last) // base] + _CODES[(at - last) % base] + code)
            last = at
    return "".join(parts)


def _short(value: float) -> float | int | None:
    """Return a value with nine digits, which is more than any plot or table shows."""
    if math.isnan(value):
        return None
    rounded = float(f"{value:.9g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
