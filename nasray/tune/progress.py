"""What a person sees while a run goes on: one bar per stage, with rate and time left; plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nasray.tune.session import DriverCallback


class StageProgress:
    """Shows the stage that runs.

    Args:
        console: Where to show it; bars only on a terminal, a line per fifth of a stage elsewhere.
        is_quiet: Show nothing while a stage runs.
    """

    def __init__(self, console: Console, *, is_quiet: bool = False) -> None:
        self.console = console
        self._is_live = console.is_terminal and not is_quiet
        self._is_quiet = is_quiet
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=False,
            disable=not self._is_live,
        )
        self._printed: dict[TaskID, int] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bars of the stages that are added meanwhile."""
        with self._bars:
            yield
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._is_quiet:
            self.console.print(text, highlight=False)

    def bar(self, stage: str, total: float) -> Bar:
        """Return a bar for a stage."""
        return Bar(self, self._bars.add_task(stage, total=total, rate="starting"), stage, total)

    def training(self, stage: str, num_epochs: int) -> tune.Callback:
        """Return a callback that advances with every epoch of every trial."""
        return _EpochCallback(self.bar(stage, num_epochs))

    def search(self, num_searches: int) -> tune.Callback:
        """Return a callback that advances with every search's cost towards its target."""
        return _SearchCallback(self.bar("search", num_searches))

    def update(self, task: TaskID, stage: str, completed: float, total: float, rate: str) -> None:
        """Move a bar; without a terminal, print a line at each fifth."""
        self._bars.update(task, completed=completed, rate=rate)
        fifth = int(5 * completed / total) if total else 0
        if not self._is_live and not self._is_quiet and fifth > self._printed.get(task, 0):
            self._printed[task] = fifth
            self.console.print(f"{stage}: {100 * completed / total:.0f}% {rate}", highlight=False)


class Bar:
    """One stage's bar."""

    def __init__(self, progress: StageProgress, task: TaskID, stage: str, total: float) -> None:
        self._progress, self._task, self._stage, self.total = progress, task, stage, total
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time since the bar was made."""
        return time.perf_counter() - self._start

    def move(self, completed: float, rate: str) -> None:
        """Set how much is done, and how fast."""
        self._progress.update(self._task, self._stage, completed, self.total, rate)


class _EpochCallback(DriverCallback):
    def __init__(self, bar: Bar) -> None:
        self._bar, self._epochs = bar, 0
        self._images = 0.0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._epochs = min(self._epochs + 1, int(self._bar.total))
        self._images += result.get("num_images", 0)
        if "epoch" in result and len(trials) == 1:
            self._epochs = result["epoch"]
        rate = f"{self._images / self._bar.seconds:.0f} images/s, loss {result.get('loss', float('nan')):.3f}"
        self._bar.move(self._epochs, rate)


class _SearchCallback(DriverCallback):
    def __init__(self, bar: Bar) -> None:
        self._bar, self._shares, self._first = bar, dict[str, float](), dict[str, int]()
        self._samples: dict[str, int] = {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        name = trial.config["trial"]["name"]
        whole = result["initial_cost"] - result["target"]
        self._shares[name] = min(1.0, (result["initial_cost"] - result["cost"]) / whole)
        self._samples[name] = result["num_samples"]
        rate = sum(self._samples.values()) / self._bar.seconds
        best = result["accuracy"]
        text = f"{rate:.0f} candidates/s" + ("" if best is None else f", best {best:.1%}")
        self._bar.move(sum(self._shares.values()), text)
