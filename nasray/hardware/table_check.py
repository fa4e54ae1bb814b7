"""Check a latency lookup table: do the sums of its layers agree with whole networks?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np

from nasray.hardware.latency import measure_latency, network_module
from nasray.hardware.lookup_table import LatencyTable, TableCheck
from nasray.hardware.table_file import append_row, mend
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import NetworkPlan


def check_latency_table(
    path: Path,
    space: MobileSpace,
    *,
    generator: np.random.Generator,
    count: int = 10,
    rounds: int = 3,
    budget_s: float = 0.05,
) -> LatencyTable:
    """Compare a table with random networks timed on this machine, and store the comparison in the table.

    Args:
        path: File of the table.
        space: A space that the table covers.
        generator: Draws the architectures.
        count: How many of them, at least 2.
        rounds: How often each network is timed; the median counts.
        budget_s: Seconds of samples for a network in a round.

    Returns:
        The table, with `checks[space.name]`.

    Raises:
        ValueError: If the table is of another device, or does not cover the space.
    """
    if count < 2:
        raise ValueError(f"`count` must be at least 2 to compare ranks, got {count}. Use 10.")
    mend(path)
    table = LatencyTable.load(path)
    plans = [space.plan(space.random(generator)) for _ in range(count)]
    predicted_ms = [table.predict(plan) for plan in plans]
    turns = [[_measure_ms(plan, table, budget_s) for plan in plans] for _ in range(rounds)]
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


def _measure_ms(plan: NetworkPlan, table: LatencyTable, budget_s: float) -> float:
    threads = table.device.threads or 1
    shape = (table.batch_size, plan.spec.in_channels, plan.spec.resolution, plan.spec.resolution)
    return measure_latency(
        network_module(plan), shape, device=table.device.kind, budget_s=budget_s, threads=threads
    ).median_ms


def _kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Return concordant minus discordant pairs over all pairs (tau-a)."""
    pairs = list(combinations(range(len(a)), 2))
    return float(sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs)) / len(pairs)
