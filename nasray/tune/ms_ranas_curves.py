"""How good the networks of a run are over all budgets: by held-out images to choose them, by test images to report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nasray.models.anytime_metrics import area_under_curve, expected_value
from nasray.tune.ms_ranas_networks import Group

HEADROOM = 1.25
"""How far the budgets of an area go beyond the dearest last exit of a run: last exits count in it too."""

NUM_BUDGETS = 1000
"""Budgets that stand for all between the cheapest and the dearest exit of a run."""


def with_curves(
    rows: Sequence[Mapping[str, Any]], *, num_classes: int, budgets_macs: Sequence[float] = ()
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of a run with their figures over all budgets, and which budgets those are.

    `holdout_area_under_curve` and `test_area_under_curve` are the mean accuracy over all budgets up to `HEADROOM` times
    the dearest last exit of the run, the same for all; `expected_test_accuracy` is that over the budgets that are
    expected. Networks guess where not even exit 1 fits. `is_best` is set on the network of each group and way to
    search with the largest held-out area.

    Args:
        rows: Of all networks of the run.
        num_classes: What guessing is as good as one of.
        budgets_macs: Multiply-adds for an image that are expected, each as likely; none for all from the cheapest exit
            of the run to its dearest one.

    Returns:
        The rows; and in multiply-adds `area_max_macs`, and either `expected_macs`, what was given, or
        `expected_range_macs`, the cheapest and the dearest exit (the other is None).

    Source: Cioflan and Timofte 2020 (MS-RANAS), eq. 4, and Sec. 5 (area as a criterion of selection). Deviation: see
    `expected_value` and `area_under_curve`.
    """
    costs = [exit["macs"] for row in rows for exit in row["exits"]]
    expected = list(budgets_macs) or _evenly(min(costs), max(costs))
    found = [_with_figures(row, HEADROOM * max(costs), expected, 1 / num_classes) for row in rows]
    best = set(best_of_each(found, ("found", "random", "msdnet")))
    for row in found:
        row["is_best"] = row["name"] in best
    return found, {
        "area_max_macs": HEADROOM * max(costs),
        "expected_macs": list(budgets_macs) or None,
        "expected_range_macs": None if budgets_macs else [min(costs), max(costs)],
    }


def best_of_each(rows: Sequence[Mapping[str, Any]], groups: Iterable[Group]) -> list[str]:
    """Return the names of the networks with the largest held-out area, one for each group and variant."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["group"], row["variant"])
        value = row["holdout_area_under_curve"]
        if row["group"] in groups and (key not in best or value > best[key]["holdout_area_under_curve"]):
            best[key] = row
    return [str(row["name"]) for row in best.values()]


def evaluation(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network as a row of the run's evaluations: held-out figures to choose by, with those of the test."""
    last = row["exits"][-1]
    names = ("holdout_area_under_curve", "test_area_under_curve", "expected_test_accuracy")
    costs = {name: last[name] for name in ("macs", "parameters", "latency_ms")}
    accuracies = {name: last[name] for name in ("holdout_accuracy", "test_accuracy")}
    return {
        "sample_id": row["name"],
        "trial_id": row["name"],
        "arch_id": row["arch_id"],
        "status": "ok",
        "metrics": {name: row[name] for name in names} | accuracies | costs,
    }


FRONT_OBJECTIVES = (
    {"name": "holdout_area_under_curve", "unit": "fraction", "direction": "maximize"},
    {"name": "macs", "unit": "count", "direction": "minimize"},
    {"name": "parameters", "unit": "count", "direction": "minimize"},
    {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
)
"""What a run's networks are the front of: nothing of the test images."""


def _with_figures(row: Mapping[str, Any], max_macs: float, expected: Sequence[float], guess: float) -> dict[str, Any]:
    macs = [exit["macs"] for exit in row["exits"]]
    accuracies = {split: [exit[f"{split}_accuracy"] for exit in row["exits"]] for split in ("holdout", "test")}
    areas = {
        f"{split}_area_under_curve": area_under_curve(macs, values, max_macs=max_macs, unanswered=guess)
        for split, values in accuracies.items()
    }
    probabilities = [1 / len(expected)] * len(expected)
    value = expected_value(macs, accuracies["test"], expected, probabilities, unanswered=guess)
    return {**row, **areas, "expected_test_accuracy": value}


def _evenly(low: float, high: float) -> list[float]:
    """Return the middles of equal parts of a range: a uniform distribution of budgets."""
    parts = np.linspace(low, high, NUM_BUDGETS + 1)
    return [float(middle) for middle in (parts[:-1] + parts[1:]) / 2]
