"""How a run looks in the terminal while it goes on: a bar for each stage, and the run's figures under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nasray.tune.live.state import LiveRun

_J_PER_KWH = 3.6e6


@dataclass(kw_only=True)
class StageState:
    """How far a stage is.

    Args:
        name: Its name.
        total: How much there is to do.
        clock: Seconds, only forward.
        done: How much is done.
        rate: How fast, in words.
        first: How much was done before it began.
        fifths: Fifths of it that were told in plain lines.
    """

    name: str
    total: float
    clock: Callable[[], float]
    done: float = 0.0
    rate: str = "starting"
    first: float = 0.0
    fifths: int = 0
    start_s: float = field(init=False)
    end_s: float | None = None

    def __post_init__(self) -> None:
        self.start_s, self.done = self.clock(), max(self.done, self.first)

    @property
    def share(self) -> float:
        """Share that is done."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def elapsed_s(self) -> float:
        """Seconds that the stage took, or has taken so far."""
        return (self.clock() if self.end_s is None else self.end_s) - self.start_s

    @property
    def left_s(self) -> float | None:
        """Seconds that it will take at the pace so far; None before anything is done."""
        new = self.done - self.first
        return self.elapsed_s * max(0.0, self.total - self.done) / new if new > 0 else None


class LiveView:
    """Draws the stages and the figures, for a terminal of any width.

    Args:
        live: The figures.
        stages: What goes on; the list may change meanwhile.
    """

    def __init__(self, live: LiveRun, stages: Sequence[StageState]) -> None:
        self._live, self._stages = live, stages

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        stages = list(self._stages)
        for stage in stages:
            yield stage_line(stage, options.max_width)
        rates = [stage.rate for stage in stages[-1:] if stage.end_s is None]
        for line in packed([*rates, *figures(self._live)], options.max_width):
            yield Text(line, no_wrap=True, overflow="ellipsis")


def stage_line(stage: StageState, width: int) -> Table:
    """Return a stage's name, bar, share, time so far and time left, in one line."""
    line = Table.grid(padding=(0, 1), expand=False)
    times = f"{stage.share:4.0%} {_clock(stage.elapsed_s)}"
    if stage.end_s is None and stage.left_s is not None:
        times += f", {_clock(stage.left_s)} left"
    name = stage.name if len(stage.name) <= 18 else stage.name[:17] + "…"
    bar_width = max(4, min(30, width - len(times) - max(len(name), 10) - 3))
    line.add_column(no_wrap=True, min_width=10)
    line.add_column(no_wrap=True, width=bar_width)
    line.add_column(no_wrap=True)
    line.add_row(Text(name), ProgressBar(total=1.0, completed=stage.share, width=bar_width), Text(times))
    return line


def figures(live: LiveRun) -> list[str]:
    """Return what is known of a run, each figure in words."""
    spent = live.spending
    energy_j = None if spent is None else spent.energy_j
    carbon_g = None if spent is None else spent.carbon_g
    found = [
        _evaluations(live),
        None if live.front_size is None else f"front {live.front_size}",
        None if live.hypervolume is None else f"hypervolume {live.hypervolume:.4g}",
        None if live.best_accuracy is None else f"best accuracy {live.best_accuracy:.1%}",
        None if live.workers is None else f"{live.workers[0]} of {live.workers[1]} workers busy",
        f"{live.queue} waiting" if live.queue else None,
        None if live.power_w is None else f"{live.power_w:.3g} W",
        ("energy unknown" if spent else None) if energy_j is None else f"{energy_j / _J_PER_KWH:.3g} kWh",
        None if carbon_g is None else f"{carbon_g / 1e3:.3g} kg CO2e",
        *(f"{left:.0%} of {_LIMITS[kind]} left" for kind, left in live.budget_left.items()),
    ]
    return [figure for figure in found if figure]


_LIMITS = {"hours": "hours", "kwh": "kWh", "co2_kg": "CO2e"}


def packed(items: Sequence[str], width: int) -> list[str]:
    """Return items joined in lines that are not wider than asked for, unless an item is."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f" · {item}"
        else:
            lines.append(item)
    return lines


def _evaluations(live: LiveRun) -> str | None:
    if not live.evaluations:
        return None
    others = [f"{count} {status}" for status, count in sorted(live.evaluations.items()) if status != "ok"]
    return f"{sum(live.evaluations.values()):,} evaluations" + (f" ({', '.join(others)})" if others else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
