"""The Pareto fronts of a run: one per cost, each of the quality against that cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from nasray.objectives import Constraint
from nasray.pareto import front_indices, hypervolume
from nasray.records.files import RunError

_SIGNS = {"minimize": 1.0, "maximize": -1.0}


def feasible(evaluations: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the evaluations that break no constraint of a run, as far as their metrics tell.

    Args:
        evaluations: Rows of the run's record.
        run: Content of its `run.json`, whose configuration may hold `constraints`, such as "macs<=1e6".
    """
    limits = [Constraint.parse(text) for text in (run.get("configuration") or {}).get("constraints") or ()]

    def meets(metrics: Mapping[str, Any], limit: Constraint) -> bool:
        return metrics.get(limit.metric) is None or limit.violation(metrics) == 0

    return [row for row in evaluations if all(meets(row.get("metrics") or {}, limit) for limit in limits)]


def front_summary(
    evaluations: Sequence[Mapping[str, Any]], objectives: Sequence[Mapping[str, Any]], *, stage: str = "search"
) -> dict[str, Any]:
    """Compute the front of the first objective (the quality) against each of the others (the costs).

    A cost against a cost is no trade-off that anyone chooses from, so there is one two-dimensional front per cost.
    Only evaluations that are ok, belong to the stage and have both metrics take part: accuracies of another
    stage are measured on other weights or other data and do not compare.

    Args:
        evaluations: Rows of the run's record.
        objectives: Mappings with `name`, `unit` and `direction` ("minimize" or "maximize"); the quality first.
        stage: Which stage's evaluations compete.

    Returns:
        `objectives`; `points`, every network on any front with `sample_id`, `arch_id`, `trial_id`, `metrics` and
        `costs` (the fronts that it is on); `fronts`, per cost the number of points and the hypervolume, with its
        reference point: the worst value of each objective among the evaluations that took part.

    Raises:
        RunError: If there are fewer than two objectives or a direction is unknown.
    """
    objectives = [checked_objective(objective) for objective in objectives]
    if len(objectives) < 2:
        raise RunError(f"`objectives` must hold a quality and at least one cost, got {len(objectives)}. Add a cost.")
    quality, *costs = objectives
    rows = [row for row in evaluations if row.get("status") == "ok" and row.get("stage", "search") == stage]
    fronts, costs_by_row = {}, dict[int, list[str]]()
    for cost in costs:
        indices, fronts[cost["name"]] = _front(rows, quality, cost)
        for index in indices:
            costs_by_row.setdefault(index, []).append(cost["name"])
    points = [_point(rows[index], costs_by_row[index]) for index in sorted(costs_by_row)]
    return {"objectives": objectives, "points": points, "fronts": fronts}


def _front(
    rows: Sequence[Mapping[str, Any]], quality: Mapping[str, str], cost: Mapping[str, str]
) -> tuple[list[int], dict[str, Any]]:
    """Return the indices of the rows on one front, and its summary."""
    names = (cost["name"], quality["name"])
    signs = (_SIGNS[cost["direction"]], _SIGNS[quality["direction"]])
    figures = [row.get("metrics") or {} for row in rows]
    complete = [index for index, row in enumerate(figures) if all(row.get(name) is not None for name in names)]
    values = [[sign * figures[index][name] for sign, name in zip(signs, names, strict=True)] for index in complete]
    if not values:
        return [], {"evaluations": 0, "points": 0, "hypervolume": None, "reference_point": None}
    worst = [max(column) for column in zip(*values, strict=True)]
    front = front_indices(values)
    reference = {name: sign * value for name, sign, value in zip(names, signs, worst, strict=True)}
    summary = {
        "evaluations": len(values),
        "points": len(front),
        "hypervolume": hypervolume(values, worst),
        "reference_point": reference,
    }
    return [complete[index] for index in front], summary


def _point(row: Mapping[str, Any], costs: list[str]) -> dict[str, Any]:
    return {key: row.get(key) for key in ("sample_id", "arch_id", "trial_id", "metrics")} | {"costs": costs}


def checked_objective(objective: Mapping[str, Any]) -> dict[str, str]:
    """Return an objective as records have it: `name`, `unit` and `direction`.

    Raises:
        RunError: If the direction is unknown.
    """
    direction = objective.get("direction")
    if direction not in _SIGNS:
        raise RunError(f"`direction` must be one of {', '.join(_SIGNS)}, got {direction!r}. Correct the objective.")
    return {"name": str(objective["name"]), "unit": str(objective.get("unit") or ""), "direction": str(direction)}
