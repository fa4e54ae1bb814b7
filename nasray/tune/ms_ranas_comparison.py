"""How found networks differ from their rivals, in accuracy and in what is not the same about them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasray.models.anytime_metrics import area_under_curve
from nasray.tune.ms_ranas_networks import Group


def compare(rows: Sequence[Mapping[str, Any]], *, num_classes: int) -> list[dict[str, Any]]:
    """Return how found networks differ from their rivals, variant by variant, over the seeds.

    Three differences of accuracy, each found minus rival: of the last exits; of the means over all budgets up to the
    dearest last exit, where a network without an answer guesses; and of the same means over those budgets alone with
    which every network has an answer. Several rivals of a seed count with their mean. Beside them stands what is not
    matched: the rivals' multiply-adds and parameters of the last exit, without what earlier exits alone need, as
    multiples of the found networks', and what exit 1 costs of the last exit.

    Args:
        rows: Of the run; `rival_of` says of which variants' networks a row is a rival.
        num_classes: What guessing is as good as one of.
    """
    found = []
    for variant in dict.fromkeys(row["variant"] for row in rows if row["group"] == "found"):
        ours = [row for row in rows if row["group"] == "found" and row["variant"] == variant]
        for group in ("random", "msdnet"):
            rivals = [row for row in rows if row["group"] == group and variant in row["rival_of"]]
            if rivals:
                found.append(_comparison(variant, group, ours, rivals, num_classes))
    return found


def _comparison(
    variant: str,
    group: Group,
    ours: Sequence[Mapping[str, Any]],
    rivals: Sequence[Mapping[str, Any]],
    num_classes: int,
) -> dict[str, Any]:
    everyone = [*ours, *rivals]
    dearest = max(row["exits"][-1]["macs"] for row in everyone)
    first = max(row["exits"][0]["macs"] for row in everyone)
    values: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "last_exit": lambda row: float(row["exits"][-1]["test_accuracy"]),
        "all_budgets": lambda row: _mean_accuracy(row, 0, dearest, num_classes),
        "answered_budgets": lambda row: _mean_accuracy(row, first, dearest, num_classes),
    }
    shares = [
        statistics.mean(row["exits"][0]["macs"] / row["exits"][-1]["macs"] for row in one) for one in (ours, rivals)
    ]
    return {
        "variant": variant,
        "rival": group,
        "num_rivals": len(rivals),
        "macs_ratio": _ratio(rivals, ours, lambda row: float(row["exits"][-1]["macs"])),
        "parameters_ratio": _ratio(rivals, ours, lambda row: float(row["exits"][-1]["parameters"])),
        "first_exit_share": {"found": shares[0], "rival": shares[1]},
        "differences": {name: _spread(_differences(ours, rivals, value)) for name, value in values.items()},
    }


def _ratio(
    rivals: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> float:
    return statistics.mean(map(value, rivals)) / statistics.mean(map(value, ours))


def _mean_accuracy(row: Mapping[str, Any], min_macs: float, max_macs: float, num_classes: int) -> float:
    macs, accuracies = ([exit[name] for exit in row["exits"]] for name in ("macs", "test_accuracy"))
    # A range of no length, as of networks with one exit each, still has its own end in it.
    end = max(max_macs, min_macs + 1)
    return area_under_curve(macs, accuracies, min_macs=min_macs, max_macs=end, unanswered=1 / num_classes)


def _differences(
    ours: Sequence[Mapping[str, Any]],
    rivals: Sequence[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], float],
) -> list[float]:
    """Return, for each seed with a rival, how much more a found network has than its rivals on average."""
    found = []
    for row in ours:
        others = [value(rival) for rival in rivals if rival["seed"] == row["seed"]]
        if others:
            found.append(value(row) - statistics.mean(others))
    return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and sample standard deviation (None for a single one) with the values themselves."""
    return {
        "values": list(values),
        "mean": statistics.mean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }
