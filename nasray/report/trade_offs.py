"""The table of extremes and best trade-offs after a multi-objective search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive, Solution
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.report.candidates import Candidates
from nasray.report.quantities import format_factor, format_metric, in_sentence, quantity

if TYPE_CHECKING:
    from rich.table import Table


def trade_off_rows(
    archive: ParetoArchive, *, quality_weight: float = 400.0, also: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Choose the networks that a person wants to see: the best of each objective, and the best trade-offs.

    Args:
        archive: Of a search whose first objective is the quality.
        quality_weight: Weight of the quality's squared distance from the ideal in trade-offs, the costs having 1.
        also: Metrics to report besides the objectives.

    Returns:
        Rows with `network`, `arch_id`, `trial_id`, `metrics` and `saves`: by which factor each cost is below that of
        the best network in quality.

    Raises:
        ValueError: If the archive has no solution.

    Source: Young et al. 2019 (MENNDL), Fig. 1 and Table I. Deviation: a row of all costs together is added.
    """
    _, *costs = archive.formulation.objectives
    whole = archive.best_trade_off([quality_weight, *[1.0] * len(costs)])  # raises where there is none
    pairs = []
    for index in range(len(costs)):
        weights = [0.0] * len(costs)
        weights[index] = 1.0
        pairs.append(archive.best_trade_off([quality_weight, *weights]))
    return _rows(archive, pairs, whole, also)


def _rows(
    archive: ParetoArchive, pairs: Sequence[Solution], whole: Solution, also: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the rows of an archive's extremes, of the quality's best trade-off with each cost, and with all."""
    quality, *costs = archive.formulation.objectives
    best = _extreme(archive, 0)
    chosen = [(f"best {in_sentence(quality.name)}", best)]
    for index, cost in enumerate(costs, start=1):
        chosen.append((f"least {in_sentence(cost.name)}", _extreme(archive, index)))
    for cost, solution in zip(costs, pairs, strict=True):
        chosen.append((f"trade-off, {in_sentence(cost.name)}", solution))
    if len(costs) > 1:
        chosen.append(("best trade-off", whole))
    names = [*(objective.name for objective in archive.formulation.objectives), *also]
    return [_row(label, solution, best, names, [cost.name for cost in costs]) for label, solution in chosen]


def trade_offs_of(run: Mapping[str, Any], candidates: Candidates) -> list[dict[str, Any]]:
    """Return the best networks and trade-offs of a run: as it recorded them, else computed from its candidates.

    A search that recorded none weighs nothing, so the objectives count alike then; the trade-off with a cost is that
    of the front of these two alone, as the page draws it.

    Args:
        run: Content of its `run.json`.
        candidates: What it evaluated.

    Returns:
        Rows as of `trade_off_rows`; none for a run with a table of results, with fewer than two objectives, or whose
        candidates were recorded without their architectures.
    """
    if run.get("trade_offs"):
        return list(run["trade_offs"])
    if run.get("results") or len(candidates.measured) < 2:
        return []
    quality, *costs = candidates.measured
    whole, *pairs = (_archive(candidates, each) for each in [[quality, *costs], *([quality, cost] for cost in costs)])
    if not all(archive.front for archive in (whole, *pairs)):
        return []
    return _rows(whole, [archive.best_trade_off() for archive in pairs], whole.best_trade_off())


def _archive(candidates: Candidates, objectives: Sequence[Objective]) -> ParetoArchive:
    """Return the candidates' front in some objectives, as far as their architectures were recorded."""
    archive = ParetoArchive(Pareto(objectives))
    for index in sorted(candidates.front([objective.name for objective in objectives])):
        row = candidates.rows[index]
        if row.get("architecture"):
            architecture = Architecture.from_json(row["architecture"])
            archive.add(str(row.get("trial_id")), architecture, Evaluation(metrics=row["metrics"]))
    return archive


def trade_off_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the rows as a table for a terminal; costs with the factor that they save."""
    from rich.table import Table

    table = Table(title="Best networks and trade-offs", show_lines=True)
    table.add_column("Network", no_wrap=True)
    for name in rows[0]["metrics"] if rows else ():
        table.add_column(quantity(name).label, justify="right")
    for row in rows:
        cells = []
        for name, value in row["metrics"].items():
            factor = format_factor(row["saves"].get(name, 1.0))
            cells.append(format_metric(name, value) + (f"\n{factor}" if factor else ""))
        table.add_row(row["network"], *cells)
    return table


def _extreme(archive: ParetoArchive, objective: int) -> Solution:
    """Return the front's best of one objective; of several, the one that comes first by the others."""
    front = archive.front
    order = [objective, *(m for m in range(len(archive.formulation.objectives)) if m != objective)]
    values = [archive.formulation.values(solution.evaluation.metrics)[order].tolist() for solution in front]
    return front[min(range(len(front)), key=lambda index: values[index])]


def _row(label: str, solution: Solution, best: Solution, names: Sequence[str], costs: Sequence[str]) -> dict[str, Any]:
    metrics, most = solution.evaluation.metrics, best.evaluation.metrics
    return {
        "network": label,
        "arch_id": solution.architecture.arch_id,
        "trial_id": solution.trial_id,
        "metrics": {name: metrics[name] for name in names if name in metrics},
        "saves": {name: most[name] / metrics[name] for name in costs if name in metrics and metrics[name] > 0},
    }
