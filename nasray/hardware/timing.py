"""Time a computation: warm-up, loops for short ones, medians of many samples."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

Run = Callable[[], object]

# A sample lasts at least this long: a thousand times what reading the clock costs.
_SAMPLE_MS = 0.1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Repeated timings of one computation: median and interquartile range in ms, and how many samples."""

    median_ms: float
    spread_ms: float
    repeats: int


def time_runs(
    run: Run, *, device: torch.device, budget_s: float, warmup_s: float = 0.0, min_repeats: int = 3
) -> Timing:
    """Time a computation until the budget is spent.

    Short computations are looped, so that a sample is far longer than the clock needs. On a GPU a sample is the time
    between two events around the loop: what a computation costs in a stream of others.
    """
    sample = _cuda_sample_ms if device.type == "cuda" else _cpu_sample_ms
    loops = max(1, math.ceil(_SAMPLE_MS / _warm_up(run, sample, warmup_s)))
    samples_ms: list[float] = []
    end = time.perf_counter() + budget_s
    while len(samples_ms) < min_repeats or time.perf_counter() < end:
        samples_ms.append(sample(run, loops))
    low, high = np.percentile(samples_ms, [25, 75])
    return Timing(median_ms=statistics.median(samples_ms), spread_ms=float(high - low), repeats=len(samples_ms))


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with this number of threads for a while.

    Raises:
        ValueError: If the number is not positive.
    """
    if threads < 1:
        raise ValueError(f"`threads` must be at least 1, got {threads}. Use 1 for steady figures.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warm_up(run: Run, sample: Callable[[Run, int], float], warmup_s: float) -> float:
    """Run for a while, at least twice; return the shortest run in ms."""
    end = time.perf_counter() + warmup_s
    sample(run, 1)
    shortest_ms = sample(run, 1)
    while time.perf_counter() < end:
        shortest_ms = min(shortest_ms, sample(run, 1))
    return shortest_ms


def _cpu_sample_ms(run: Run, loops: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(loops):
        run()
    return (time.perf_counter_ns() - start) / loops / 1e6


def _cuda_sample_ms(run: Run, loops: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(loops):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / loops
