"""One record, one front for each device."""

from __future__ import annotations

from collections.abc import Sequence

from nasray.archive import ParetoArchive, Solution
from nasray.pareto import front_indices


def fronts_per_device(archive: ParetoArchive, costs: Sequence[str] | None = None) -> dict[str, list[Solution]]:
    """Return the front of the quality against each device's cost, among everything that a search evaluated.

    A search may be led by one figure of all devices, such as the worst case, and still keep each device's cost among
    its metrics: then its record has a front for every one of them.

    Args:
        archive: Of a search whose first objective is the quality.
        costs: Metrics to minimise, one per device; `None` takes the objectives after the first.

    Returns:
        For each cost the solutions that none with a better quality beats, the cheapest first.

    Raises:
        ValueError: If there is no cost, or a solution lacks one.
    """
    quality, *others = archive.formulation.objectives
    names = [objective.name for objective in others] if costs is None else list(costs)
    if not names:
        raise ValueError("`costs` must name a metric for each device, got none.")
    return {name: _front(archive.solutions, quality.name, quality.sign, name) for name in names}


def _front(solutions: Sequence[Solution], quality: str, sign: float, cost: str) -> list[Solution]:
    if lacking := next((s.trial_id for s in solutions if cost not in s.evaluation.metrics), None):
        raise ValueError(f"`costs` must be metrics of every evaluation, got {cost!r}, which {lacking!r} lacks.")
    values = [(s.evaluation.metrics[cost], sign * s.evaluation.metrics[quality]) for s in solutions]
    chosen = front_indices(values) if values else []
    return [solutions[index] for index in sorted(chosen, key=lambda index: values[index])]
