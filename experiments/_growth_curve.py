"""How a process's memory and its time per evaluation go in the course of a search."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nasray.evaluation import Evaluation
from nasray.strategies.strategy import Trial


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How this process stood at a moment.

    Args:
        evaluations: Recorded so far.
        wall_s: Since the first of them.
        cpu_s: Processor time of this process since then, all threads.
        work_s: Processor time of the fixed work since then, once for each evaluation.
        own_mb: Memory that this process alone has written.
        uss_mb: Unique set size.
    """

    evaluations: int
    wall_s: float
    cpu_s: float
    work_s: float
    own_mb: float
    uss_mb: float


class Curve:
    """Takes a sample of this process at the first evaluation, and at every so many."""

    def __init__(self, window: int) -> None:
        self.samples: list[Sample] = []
        self._window, self._count, self._process = window, 0, psutil.Process()
        self._wall_s = self._cpu_s = self._work_s = 0.0

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Count an evaluation."""
        self._count += 1
        self._work_s += fixed_work_s()
        if self._count == 1:
            self._wall_s, self._cpu_s, self._work_s = time.perf_counter(), self._cpu(), 0.0
        if self._count == 1 or self._count % self._window == 0:
            self._take()

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _take(self) -> None:
        sample = Sample(
            evaluations=self._count,
            wall_s=time.perf_counter() - self._wall_s,
            cpu_s=self._cpu() - self._cpu_s,
            work_s=self._work_s,
            own_mb=sum(part.private_dirty for part in self._process.memory_maps()) / 1e6,
            uss_mb=self._process.memory_full_info().uss / 1e6,
        )
        if self.samples:
            wall_ms, cpu_ms, work_ms = per_evaluation([self.samples[-1], sample])
            print(
                f"{sample.evaluations:7} evaluations: {wall_ms:6.1f} ms each, {cpu_ms:5.1f} ms of the driver's "
                f"processor ({cpu_ms / work_ms:.1f} times the fixed work); {sample.own_mb:6.1f} MB "
                f"(USS {sample.uss_mb:.1f})",
                flush=True,
            )
        self.samples.append(sample)


def fixed_work_s() -> float:
    """Return the processor time that the same small piece of work takes now."""
    start = time.thread_time()
    sum(number * number % 7 for number in range(3000))
    return time.thread_time() - start


def per_evaluation(samples: list[Sample]) -> tuple[float, float, float]:
    """Return what an evaluation took between the first and the last sample, in ms.

    Returns:
        Wall-clock time, processor time without the fixed work, and processor time of the fixed work.
    """
    first, last = samples[0], samples[-1]
    count = last.evaluations - first.evaluations
    wall_s, cpu_s, work_s = (getattr(last, name) - getattr(first, name) for name in ("wall_s", "cpu_s", "work_s"))
    return 1e3 * wall_s / count, 1e3 * (cpu_s - work_s) / count, 1e3 * work_s / count


def growth(samples: list[Sample]) -> dict[str, float]:
    """Return the first and the last tenth's times, their ratios, and how far memory grew."""
    tenth = max(1, (len(samples) - 1) // 10)
    start_ms, start_cpu_ms, start_work_ms = per_evaluation(samples[: tenth + 1])
    end_ms, end_cpu_ms, end_work_ms = per_evaluation(samples[-tenth - 1 :])
    return {
        "start_ms": start_ms,
        "end_ms": end_ms,
        "ratio": end_ms / start_ms,
        "start_cpu_ms": start_cpu_ms,
        "end_cpu_ms": end_cpu_ms,
        "cpu_ratio": end_cpu_ms / start_cpu_ms,
        "start_work": start_cpu_ms / start_work_ms,
        "end_work": end_cpu_ms / end_work_ms,
        "work_ratio": (end_cpu_ms / end_work_ms) / (start_cpu_ms / start_work_ms),
        "start_mb": samples[0].own_mb,
        "end_mb": samples[-1].own_mb,
        "growth_mb": samples[-1].own_mb - samples[0].own_mb,
        "uss_growth_mb": samples[-1].uss_mb - samples[0].uss_mb,
    }


def plot(path: Path, samples: list[Mapping[str, Any]]) -> None:
    """Draw memory and processor time per evaluation over the evaluations."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    pairs = list(itertools.pairwise(samples))
    times = [per_evaluation([Sample(**one), Sample(**other)]) for one, other in pairs]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=("driver's memory, MB", "ms/evaluation"))
    figure.add_trace(
        go.Scatter(x=[s["evaluations"] for s in samples], y=[s["own_mb"] for s in samples], name="memory"), 1, 1
    )
    x = [other["evaluations"] for _, other in pairs]
    for number, name in enumerate(("wall-clock", "driver's processor", "fixed work")):
        figure.add_trace(go.Scatter(x=x, y=[pair[number] for pair in times], name=name), 2, 1)
    figure.update_yaxes(rangemode="tozero")
    figure.write_html(path, include_plotlyjs=True)
