"""What a person and Ray's metrics see while a run goes on: one view for every program, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live

from nasray.carbon.account import EnergyAccount
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation, Pareto
from nasray.objectives import Objective
from nasray.tune.driver_callback import DriverCallback
from nasray.tune.live.metrics import RayMetrics, where_metrics_go
from nasray.tune.live.state import LiveRun
from nasray.tune.live.view import LiveView, StageState, stage_line

_REFRESHES_PER_S = 4

AGAINST_MACS = Pareto([Objective(name="accuracy", direction="maximize", ideal=1.0), Objective(name="macs")])
"""What searches are looked at for that have other goals, such as a cost to stay below."""


class StageProgress:
    """Shows the stage that runs and the figures of one run, in the terminal and through Ray's metrics.

    Args:
        console: Where to show it; a live view only on a terminal, a line per fifth of a stage elsewhere.
        is_quiet: Show nothing while a stage runs; Ray's metrics are set all the same.
    """

    def __init__(self, console: Console, *, is_quiet: bool = False) -> None:
        self.console, self.live = console, LiveRun()
        self._is_live = console.is_terminal and not is_quiet
        self._is_quiet = is_quiet
        self._stages: list[StageState] = []
        self._metrics = RayMetrics(self.live)

    def follow(self, name: str, account: EnergyAccount | None) -> None:
        """Show the figures of a run.

        Args:
            name: Of the run, by which its metrics are told from others'.
            account: Of its energy, started.
        """
        is_new = self.live.name != name
        self.live.follow(name, account)
        where = where_metrics_go() if is_new else None
        if where is not None:
            self.say(where)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the stages that begin meanwhile; a line for each stays when they have ended."""
        try:
            if not self._is_live:
                yield
                return
            view = LiveView(self.live, self._stages)
            with Live(view, console=self.console, refresh_per_second=_REFRESHES_PER_S, transient=True):
                yield
        finally:
            ended, self._stages[:] = list(self._stages), []
            for stage in ended:
                stage.end_s = stage.clock()
                if self._is_live:
                    self.console.print(stage_line(stage, self.console.width))
            self.live.workers = self.live.queue = None
            self.tick()

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._is_quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def bar(self, stage: str, total: float, *, done: float = 0.0) -> Bar:
        """Return a bar for a stage, of which some may have been done before."""
        state = StageState(name=stage, total=total, clock=time.perf_counter, first=done)
        self._stages.append(state)
        self.live.stage, self.live.done = stage, state.share
        return Bar(self, state)

    def training(self, stage: str, num_epochs: int) -> tune.Callback:
        """Return a callback that advances with every epoch of every trial."""
        return _EpochCallback(self, self.bar(stage, num_epochs))

    def search(self, num_searches: int, recorded: Iterable[Mapping[str, Any]] = ()) -> tune.Callback:
        """Return a callback that advances with every search's cost towards its target.

        It has to see results before their evaluations are taken out.

        Args:
            num_searches: How many searches there are.
            recorded: Evaluations of these searches that were recorded before.
        """
        for row in recorded:
            self.take(row)
        return _SearchCallback(self, self.bar("search", num_searches))

    def trials(self, workers_each: int, num_at_once: int) -> tune.Callback:
        """Return a callback that follows which trials run, and keeps the figures fresh.

        Args:
            workers_each: Workers of a trial.
            num_at_once: Trials that can run at a time.
        """
        return _TrialCallback(self, workers_each, num_at_once)

    def aim(self, formulation: Formulation) -> None:
        """Compare evaluations by these objectives from now on."""
        self.live.aim(formulation)

    def compared(self, sample_id: str, evaluation: Evaluation) -> None:
        """Count an evaluation of a search that has other goals: its accuracy is looked at against multiply-adds."""
        if self.live.front_size is None:
            self.live.aim(AGAINST_MACS)
        self.evaluated(sample_id, evaluation)

    def evaluated(self, sample_id: str, evaluation: Evaluation) -> None:
        """Count an evaluation; one of a sample that was counted before changes nothing."""
        self.live.add(sample_id, evaluation)

    @contextmanager
    def working(self, num_workers: int, num_candidates: int) -> Iterator[Callable[[int], None]]:
        """Follow a batch of candidates; gives what is to be called with how many of them just came back."""
        left = num_candidates

        def came_back(number: int) -> None:
            nonlocal left
            left -= number
            self.live.workers, self.live.queue = (min(left, num_workers), num_workers), max(0, left - num_workers)
            self.tick()

        came_back(0)
        yield came_back

    def tick(self) -> None:
        """Bring what is spent and Ray's metrics up to date, about once a second whenever called more often."""
        if self.live.refresh():
            self._metrics.export()

    def moved(self, stage: StageState, completed: float, rate: str, also: str) -> None:
        """Take in how far a stage is; without a terminal, print a line at each fifth."""
        stage.done, stage.rate = completed, rate
        self.live.stage, self.live.done = stage.name, stage.share
        fifths = int(5 * stage.share)
        if not self._is_live and not self._is_quiet and fifths > stage.fifths:
            stage.fifths = fifths
            self.console.print(f"{stage.name}: {100 * stage.share:.0f}% {rate}{also and f', {also}'}", highlight=False)
        self.tick()

    def take(self, row: Mapping[str, Any]) -> None:
        """Count an evaluation as it stands in the record of a search that has other goals."""
        evaluation = Evaluation(status=row["status"], metrics=row["metrics"], reason=row.get("reason"))
        self.compared(row["sample_id"], evaluation)


class Bar:
    """One stage's bar."""

    def __init__(self, progress: StageProgress, stage: StageState) -> None:
        self._progress, self._stage = progress, stage

    @property
    def total(self) -> float:
        """How much there is to do."""
        return self._stage.total

    @property
    def seconds(self) -> float:
        """Time since the bar was made."""
        return self._stage.elapsed_s

    def move(self, completed: float, rate: str, also: str = "") -> None:
        """Set how much is done.

        Args:
            completed: Of the total.
            rate: How fast, in words.
            also: What plain lines say besides; a live view has the figures anyway.
        """
        self._progress.moved(self._stage, completed, rate, also)


class _EpochCallback(DriverCallback):
    def __init__(self, progress: StageProgress, bar: Bar) -> None:
        self._progress, self._bar, self._epochs = progress, bar, 0
        self._images = 0.0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._epochs = min(self._epochs + 1, int(self._bar.total))
        self._images += result.get("num_images", 0)
        if "epoch" in result and len(trials) == 1:
            self._epochs = result["epoch"]
        if {"holdout_accuracy", "macs"} <= result.keys():  # a differentiable search, which compares after each epoch
            metrics = {"accuracy": result["holdout_accuracy"], "macs": result["macs"]}
            self._progress.compared(f"{trial.trial_id}/{result['epoch']}", Evaluation.from_metrics(metrics, 0.0))
        rate = f"{self._images / self._bar.seconds:.0f} images/s, loss {result.get('loss', float('nan')):.3f}"
        self._bar.move(self._epochs, rate)


class _SearchCallback(DriverCallback):
    def __init__(self, progress: StageProgress, bar: Bar) -> None:
        self._progress, self._bar = progress, bar
        self._shares, self._samples = dict[str, float](), dict[str, int]()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        for row in result.get("evaluations", ()):
            self._progress.take(row)
        name = trial.config["trial"]["name"]
        whole = result["initial_cost"] - result["target"]
        self._shares[name] = min(1.0, (result["initial_cost"] - result["cost"]) / whole)
        self._samples[name] = result["num_samples"]
        rate = sum(self._samples.values()) / self._bar.seconds
        best = result["accuracy"]
        also = "" if best is None else f"best {best:.1%}"
        self._bar.move(sum(self._shares.values()), f"{rate:.0f} candidates/s", also)


class _TrialCallback(DriverCallback):
    def __init__(self, progress: StageProgress, workers_each: int, num_at_once: int) -> None:
        self._progress, self._each, self._num_at_once = progress, workers_each, num_at_once
        self._running = set[str]()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._running.discard(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._running.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        live = self._progress.live
        live.workers = (len(self._running) * self._each, self._num_at_once * self._each)
        live.queue = sum(trial.status == "PENDING" for trial in trials)
        self._progress.tick()
