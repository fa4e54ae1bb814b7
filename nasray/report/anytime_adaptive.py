"""What networks with early exits come to within budgets: of single images, of their mean, and against rivals."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasray.report.anytime_table import DIFFERENCES, RIVALS, Kind, difference_text, spread_text
from nasray.report.figures import Trace
from nasray.report.markup import Html, element, join
from nasray.report.quantities import MISSING, format_metric
from nasray.report.tables import table

_AREAS: Mapping[str, str] = {
    "holdout_area_under_curve": "Area, held-out images",
    "test_area_under_curve": "Area, test images",
    "expected_test_accuracy": "Expected test accuracy",
}


def adaptive_traces(groups: Sequence[Kind]) -> list[Trace]:
    """Draw test accuracy over mean multiply-adds where images leave early, a dashed line for the best of each kind."""
    return [
        {
            "x": [policy["test_mean_macs"] for policy in row["adaptive"]],
            "y": [policy["test_accuracy"] for policy in row["adaptive"]],
            "mode": "lines+markers",
            "name": f"{html.escape(kind.label, quote=False)}, leaving early",
            "line": {"dash": "longdashdot", "width": 1.5},
            "marker": {"symbol": "cross-thin-open", "size": 8},
            "hovertext": [_hover(row, policy) for policy in row["adaptive"]],
            "hoverinfo": "text",
            "meta": {"role": "path", "trial": "", "series": series, "cost": "macs"},
        }
        for series, kind in enumerate(groups)
        if (row := best_of(kind)) is not None and row["adaptive"]
    ]


def within_budgets(groups: Sequence[Kind], budgets: Mapping[str, Any] | None) -> list[Html]:
    """Return the section on accuracies within budgets, if the run has them."""
    rows = [row for kind in groups if (row := best_of(kind)) is not None]
    if not rows or budgets is None:
        return []
    content = [element("p", f"{_areas_sentence(budgets)} {_expected(budgets)}.", class_="note")]
    content.append(_areas_table(groups))
    if any(row["adaptive"] for row in rows):
        note = (
            "Below, each image leaves at the first exit whose confidence reaches a threshold. Thresholds were "
            "calibrated on held-out images, so that an image costs no more than the budget in the mean; of each kind, "
            "the network with the largest held-out area is shown."
        )
        content += [element("p", note, class_="note"), _adaptive_table(groups)]
    return [element("section", element("h2", "Accuracy within budgets"), *content)]


def budget_sentences(groups: Sequence[Kind], budgets: Mapping[str, Any]) -> Iterator[str]:
    """Say the expected accuracies, and what each kind's best network comes to when images leave early."""
    expected = "; ".join(f"{kind.label} {_figure(kind, 'expected_test_accuracy')} %" for kind in groups)
    yield f"{_expected(budgets)}: {expected}."
    for kind in groups:
        row = best_of(kind)
        if row is None or not row["adaptive"]:
            continue
        points = ", ".join(
            f"{100 * policy['test_accuracy']:.2f} % at {_macs(policy['test_mean_macs'])}" for policy in row["adaptive"]
        )
        last = row["exits"][-1]
        yield (
            f"{kind.label} ({row['name']}), images leaving once an exit is sure: {points} multiply-adds in the mean; "
            f"the last exit for all: {100 * last['test_accuracy']:.2f} % at {_macs(last['macs'])}."
        )


def differences(comparisons: Sequence[Mapping[str, Any]]) -> Html:
    """Return the section on found networks and their rivals."""
    heading = element("h2", "Found networks against their rivals")
    if not comparisons:
        return element("section", heading, element("p", "No rival was trained.", class_="empty"))
    rows = [
        [
            comparison["variant"],
            f"{RIVALS[comparison['rival']]} ({comparison['num_rivals']})",
            f"{comparison['macs_ratio']:.2f}",
            f"{comparison['parameters_ratio']:.2f}",
            "{found:.0%}, {rival:.0%}".format(**comparison["first_exit_share"]),
            *(difference_text(comparison["differences"][name]) for name in DIFFERENCES),
        ]
        for comparison in comparisons
    ]
    heads = ["Search", "Rival", "MACs against the found", "Parameters against the found"]
    heads += ["Exit 1 of the last exit's MACs: found, rival", *(text.capitalize() for text in DIFFERENCES.values())]
    note = (
        "Accuracy of the found network less the rival's in points, seed by seed: mean and standard deviation. Budgets "
        "are multiply-adds up to the dearest last exit; a network that has no answer yet guesses. Rivals are matched "
        "in the multiply-adds of the last exit, not in parameters."
    )
    return element(
        "section",
        heading,
        element("p", note, class_="note"),
        table(heads, rows, caption="Differences in test accuracy", num_text=2),
    )


def best_of(kind: Kind) -> Mapping[str, Any] | None:
    """Return the network of a kind with the largest held-out area; None in results that have none."""
    return next((row for row in kind.rows if row.get("is_best")), None)


def _areas_table(groups: Sequence[Kind]) -> Html:
    rows = [[kind.label, *(f"{_figure(kind, name)} %" for name in _AREAS)] for kind in groups]
    return table(["Network", *_AREAS.values()], rows, caption="Mean accuracy over budgets of single images")


def _adaptive_table(groups: Sequence[Kind]) -> Html:
    rows = [
        [
            join(kind.label, element("small", f" {row['name']}")),
            _macs(policy["budget_macs"]),
            _macs(policy["test_mean_macs"]),
            format_metric("accuracy", policy["test_accuracy"]),
            _with_one_exit(row, policy["test_mean_macs"]),
            " / ".join(f"{100 * share:.0f}" for share in policy["test_shares"]),
        ]
        for kind in groups
        if (row := best_of(kind)) is not None
        for policy in row["adaptive"]
    ]
    heads = ["Network", "Budget", "MACs, test images", "Test accuracy", "With one exit for all", "Left at each exit, %"]
    return table(heads, rows, caption="Images that leave early; multiply-adds of an image in the mean")


def _with_one_exit(row: Mapping[str, Any], macs: float) -> str:
    """Write the test accuracy of the last exit that costs at most as much, for all images."""
    affordable = [exit["test_accuracy"] for exit in row["exits"] if exit["macs"] <= macs]
    return format_metric("accuracy", affordable[-1]) if affordable else MISSING


def _figure(kind: Kind, name: str) -> str:
    values = [row[name] for row in kind.rows]
    return spread_text(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


def _areas_sentence(budgets: Mapping[str, Any]) -> str:
    return (
        "An area is the mean accuracy with budgets of a single image from 0 to "
        f"{_macs(budgets['area_max_macs'])} multiply-adds, each as likely; without an answer, a network guesses. "
        "Networks were chosen by the held-out images."
    )


def _expected(budgets: Mapping[str, Any]) -> str:
    if budgets["expected_macs"]:
        macs = ", ".join(map(_macs, budgets["expected_macs"]))
        return f"Expected test accuracy is that with budgets of {macs} multiply-adds, each as likely"
    low, high = map(_macs, budgets["expected_range_macs"])
    return f"Expected test accuracy is that with budgets from {low} to {high} multiply-adds, each as likely"


def _hover(row: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    return (
        f"{html.escape(str(row['name']), quote=False)}, leaving early<br>{_macs(policy['test_mean_macs'])} "
        f"multiply-adds in the mean: {format_metric('accuracy', policy['test_accuracy'])}"
    )


def _macs(value: float) -> str:
    return format_metric("macs", value).strip()
