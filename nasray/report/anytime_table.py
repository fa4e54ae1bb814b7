"""Networks with exits as tables: means and spreads over networks of a kind, and what their differences come to."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasray.report.quantities import MISSING

if TYPE_CHECKING:
    from rich.table import Table

COST_NAMES = ("macs", "parameters", "latency_ms", "energy_mj")
"""What an exit costs, as far as it was measured."""

DIFFERENCES: Mapping[str, str] = {
    "last_exit": "last exit",
    "all_budgets": "mean over all budgets",
    "answered_budgets": "mean over budgets that all can answer",
}
"""Keys of a comparison's differences, and what people read."""

RIVALS: Mapping[str, str] = {"random": "random architectures", "msdnet": "MSDNet"}
"""Whom found networks are compared with, and what people read."""


@dataclass(frozen=True, kw_only=True)
class ExitSummary:
    """An exit of several networks of a kind: means, and the sample standard deviation of the accuracy.

    Args:
        exit: Counted from 1.
        accuracy: Mean test accuracy.
        accuracy_std: None for a single network.
        costs: Mean of each of `COST_NAMES`; None if it is unknown of any of them.
    """

    exit: int
    accuracy: float
    accuracy_std: float | None
    costs: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The networks of a run that differ only in seeds or draws.

    Args:
        label: What people read.
        group: "found", "random" or "msdnet".
        rows: Of the run's results, one for each network.
    """

    label: str
    group: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def exits(self) -> list[ExitSummary]:
        """Each exit over all networks."""
        return [self._exit(index) for index in range(len(self.rows[0]["exits"]))]

    def _exit(self, index: int) -> ExitSummary:
        exits = [row["exits"][index] for row in self.rows]
        accuracies = [exit["test_accuracy"] for exit in exits]
        costs = {name: [exit[name] for exit in exits] for name in COST_NAMES}
        return ExitSummary(
            exit=index + 1,
            accuracy=statistics.mean(accuracies),
            accuracy_std=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            costs={name: None if None in column else statistics.mean(column) for name, column in costs.items()},
        )


def kinds(networks: Sequence[Mapping[str, Any]]) -> list[Kind]:
    """Sort networks into kinds; with several ways to search, labels say which."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in networks:
        found.setdefault((row["group"], row["variant"]), []).append(row)
    has_several = len({variant for _, variant in found}) > 1
    return [
        Kind(label=f"{rows[0]['label']}: {variant}" if has_several else rows[0]["label"], group=group, rows=rows)
        for (group, variant), rows in found.items()
    ]


def anytime_table(networks: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate every exit of every kind of network for the terminal, means over its networks."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Exits on the test images (mean \N{PLUS-MINUS SIGN} standard deviation over networks)")
    table.add_column("Network", overflow="fold", min_width=12, max_width=32)
    for head in ("Nets", "Exit", "Accuracy %", "MACs M", "Params K", "Time ms"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for kind in kinds(networks):
        for summary in kind.exits:
            is_first = summary.exit == 1
            table.add_row(
                Text(kind.label if is_first else ""),
                str(len(kind.rows)) if is_first else "",
                str(summary.exit),
                accuracy_text(summary),
                *(
                    _scaled(summary.costs[name], unit)
                    for name, unit in (("macs", 1e6), ("parameters", 1e3), ("latency_ms", 1.0))
                ),
            )
    return table


def accuracy_text(summary: ExitSummary) -> str:
    """Write a mean accuracy in percent, with its standard deviation if there is one."""
    return spread_text(summary.accuracy, summary.accuracy_std)


def spread_text(mean: float, std: float | None) -> str:
    """Write a mean share in percent, with its standard deviation if there is one."""
    return f"{100 * mean:.2f}" + ("" if std is None else f" \N{PLUS-MINUS SIGN} {100 * std:.2f}")


def comparison_sentences(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say, for each rival of each way to search, by how many points found networks are better or worse."""
    for comparison in comparisons:
        shares = comparison["first_exit_share"]
        parts = [f"{difference_text(comparison['differences'][name])} {text}" for name, text in DIFFERENCES.items()]
        rival = RIVALS[comparison["rival"]]
        yield (
            f"Found minus {rival} ({comparison['variant']}), in points: {'; '.join(parts)}. The last exit of {rival} "
            f"takes {comparison['macs_ratio']:.2f}x the multiply-adds and {comparison['parameters_ratio']:.2f}x the "
            f"parameters of the found one's; exit 1 takes {shares['rival']:.0%} of the last exit's multiply-adds "
            f"(found {shares['found']:.0%})."
        )


def difference_text(difference: Mapping[str, Any]) -> str:
    """Write a difference of accuracies in points, with its standard deviation and the number of seeds."""
    if difference["mean"] is None:
        return MISSING
    number = len(difference["values"])
    spread = "" if difference["std"] is None else f" \N{PLUS-MINUS SIGN} {100 * difference['std']:.2f}"
    return f"{100 * difference['mean']:+.2f}{spread} ({number} seed{'s' if number > 1 else ''})"


def _scaled(value: float | None, unit: float) -> str:
    return MISSING if value is None else f"{value / unit:.3g}"
