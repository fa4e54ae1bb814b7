"""Check a latency lookup table: do the sums of its layers agree with whole networks?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np

from nasray.architecture import Architecture
from nasray.hardware.latency import latency_measure
from nasray.hardware.lookup_table import LatencyTable, TableCheck
from nasray.hardware.table_file import append_row, mend
from nasray.hardware.table_keys import PlannedSpace


def check_latency_table(
    path: Path,
    space: PlannedSpace,
    *,
    generator: np.random.Generator,
    count: int = 10,
    rounds: int = 3,
    budget_s: float = 0.05,
    architectures: Sequence[Architecture] | None = None,
) -> LatencyTable:
    """Compare a table with random networks timed on this machine, and store the comparison in the table.

    Args:
        path: File of the table.
        space: A space that the table covers.
        generator: Draws the architectures.
        count: How many of them, at least 2.
        rounds: How often each network is timed; the median counts.
        budget_s: Seconds of samples for a network in a round.
        architectures: The networks, instead of random ones: of chains, whose random layers no table covers.

    Returns:
        The table, with `checks[space.name]`.

    Raises:
        ValueError: If the table is of another device, or does not cover the space.
    """
    if count < 2:
        raise ValueError(f"`count` must be at least 2 to compare ranks, got {count}. Use 10.")
    mend(path)
    table = LatencyTable.load(path)
    drawn = [space.random(generator) for _ in range(count)] if architectures is None else list(architectures)
    if len(drawn) < 2:
        raise ValueError(f"`architectures` must be at least 2 to compare ranks, got {len(drawn)}.")
    predicted_ms = [table.predict(space.plan(each)) for each in drawn]
    measure = latency_measure(
        space,
        device=table.device.kind,
        batch_size=table.batch_size,
        budget_s=budget_s,
        threads=table.device.threads or 1,
    )
    turns = [[measure(each) for each in drawn] for _ in range(rounds)]
    measured_ms = [statistics.median(values) for values in zip(*turns, strict=True)]
    append_row(path, {"check": asdict(compare(space.name, predicted_ms, measured_ms))})
    return LatencyTable.load(path)


def compare(space: str, predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> TableCheck:
    """Return how well predicted latencies agree with measured ones."""
    ratios = [p / m for p, m in zip(predicted_ms, measured_ms, strict=True)]
    return TableCheck(
        space=space,
        num_networks=len(ratios),
        median_ratio=statistics.median(ratios),
        mean_absolute_percentage_error=100 * statistics.fmean(abs(ratio - 1) for ratio in ratios),
        kendall_tau=_kendall_tau(predicted_ms, measured_ms),
    )


def _kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Return concordant minus discordant pairs over all pairs (tau-a)."""
    pairs = list(combinations(range(len(a)), 2))
    return float(sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs)) / len(pairs)
