"""A search with one Tune trial per candidate, recorded in a run directory; a run that was broken off goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.stopper import CombinedStopper

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.records import RunDirectory
from nasray.search.strategy import Strategy, Trial
from nasray.tune.batch_search import note_budget
from nasray.tune.candidate_result import CANDIDATE_ID
from nasray.tune.candidate_trial import CandidateTrial, EvaluatorFactory
from nasray.tune.checkpoints import next_attempt
from nasray.tune.energy.account import BudgetStopper, ClusterAccount
from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.newest_first import NewestTrialFirst
from nasray.tune.search_record import STAGE, evaluation_row, recorded_evaluation
from nasray.tune.session import DriverCallback, TrialLogs, Workers
from nasray.tune.strategy_searcher import StrategySearcher

STATE = "search_state.json"

_SAVING_SHARE = 0.05


def run_search(
    strategy: Strategy,
    evaluator_factory: EvaluatorFactory,
    *,
    workers: Workers,
    run: RunDirectory,
    formulation: Formulation | None = None,
    timeout_s: float | None = None,
    max_retries: int = 1,
    account: ClusterAccount | None = None,
    callbacks: Sequence[tune.Callback] = (),
    on_evaluation: Callable[[Trial, Evaluation], None] | None = None,
) -> ParetoArchive:
    """Search until the strategy is finished, on the Ray that is up, and return what was found.

    Every evaluation is in `evaluations.jsonl` before the strategy is told. A run directory that holds an unfinished
    search is continued: the strategy goes on from its saved state, recorded evaluations are told and not made again,
    and candidates that were out are evaluated anew. After a crash of this process, candidates that were asked for in
    the last moments may be asked for differently; their evaluations stay in the archive.

    An interrupt (Ctrl-C) ends the trials, saves the state and raises KeyboardInterrupt; a second one does so at once,
    with what was saved last.

    Args:
        strategy: What to ask; to continue, made with the same arguments as before.
        evaluator_factory: Makes what evaluates an architecture; called once in each worker.
        workers: How many candidates at a time, and the resources of each.
        run: Where to record; create it with `resume=True` to continue.
        formulation: Objectives and constraints of the archive; by default the strategy's own.
        timeout_s: How long a candidate may take, in seconds; None for no limit.
        max_retries: How often a candidate is tried again after its worker crashed.
        account: Of the run's energy, started: every candidate is charged, and a budget that is used up ends the
            search as if it were done; candidates that are out then are evaluated anew if it is continued.
        callbacks: More of Ray's callbacks, such as a `HardwareCostCallback`.
        on_evaluation: Told of every new evaluation after it is recorded, to show progress.

    Raises:
        ValueError: If no formulation is known or the saved state is damaged.
        KeyboardInterrupt: If it was interrupted.
    """
    formulation = formulation or getattr(strategy, "formulation", None)
    if formulation is None:
        raise ValueError(f"`formulation` must be given, as {type(strategy).__name__} has none of its own.")
    archive = ParetoArchive(formulation)
    record = _Record(run, archive, on_evaluation)
    searcher = StrategySearcher(
        strategy,
        metrics=formulation.metrics,
        max_concurrent=workers.count,
        max_retries=max_retries,
        record=record,
    )
    saver = _StateSaver(searcher, run.path / STATE)
    saver.restore()
    for row in record.rows():
        searcher.add_known(Architecture.from_json(row["architecture"]), recorded_evaluation(row))
    start, started = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        if not strategy.is_finished:
            with _interruptible() as interrupt, closing(TrialLogs()) as logs:  # type: ignore[no-untyped-call]
                charged = [EnergyCallback(stage=STAGE, account=account)] if account else []
                stop = CombinedStopper(interrupt, BudgetStopper(account))
                hooks = [*charged, *callbacks, saver, logs]
                _tuner(searcher, evaluator_factory, workers, timeout_s, run, hooks, stop).fit()
            if interrupt.is_set:
                raise KeyboardInterrupt
    finally:
        saver.save()
        run.add_stage(STAGE, time.perf_counter() - start, started=started, device=workers.device)
    if not strategy.is_finished:
        note_budget(run, account)
    return archive


def _tuner(
    searcher: StrategySearcher,
    evaluator_factory: EvaluatorFactory,
    workers: Workers,
    timeout_s: float | None,
    run: RunDirectory,
    callbacks: Sequence[tune.Callback],
    stop: tune.Stopper,
) -> tune.Tuner:
    trainable = tune.with_parameters(
        CandidateTrial, evaluator_factory=evaluator_factory, metrics=searcher.metrics, timeout_s=timeout_s
    )
    bundle = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    storage = (run.path / "ray").resolve()
    return tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([bundle])),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=NewestTrialFirst(),
            num_samples=-1,
            # Ray starts as many actors at once; the searcher itself keeps the limit.
            max_concurrent_trials=workers.count,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=next_attempt(storage, STAGE),
            storage_path=str(storage),
            callbacks=list(callbacks),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
            stop=stop,
            verbose=0,
        ),
    )


def _trial_name(trial: Any) -> str:
    return f"{trial.config[CANDIDATE_ID]}-{trial.trial_id}"


class _Record:
    """Writes evaluations to the run directory and adds them to the archive."""

    def __init__(
        self,
        run: RunDirectory,
        archive: ParetoArchive,
        on_evaluation: Callable[[Trial, Evaluation], None] | None,
    ) -> None:
        self._run, self._archive, self._on_evaluation = run, archive, on_evaluation

    def rows(self) -> list[dict[str, Any]]:
        """Return what an earlier run recorded, after adding it to the archive."""
        rows = [row for row in self._run.evaluations() if row.get("stage") == STAGE]
        for row in rows:
            self._archive.add(row["trial_id"], Architecture.from_json(row["architecture"]), recorded_evaluation(row))
        return rows

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        self._run.append_evaluations([evaluation_row(trial, evaluation)])
        self._archive.add(trial.trial_id, trial.architecture, evaluation)
        if self._on_evaluation is not None:
            self._on_evaluation(trial, evaluation)


class _StateSaver(DriverCallback):
    """Saves the searcher's state after changes, but spends at most a twentieth of the time on it."""

    def __init__(self, searcher: StrategySearcher, path: Path) -> None:
        self._target, self._path = searcher, path
        self._seen, self._next_time = (0, 0), 0.0

    def restore(self) -> None:
        """Go on from the saved state, if there is one; what was out is suggested again."""
        if self._path.exists():
            self._target.restore(str(self._path))
            self._target.reconcile([])

    def save(self) -> None:
        """Save now."""
        start = time.monotonic()
        self._target.save(str(self._path))
        end = time.monotonic()
        self._next_time = end + (end - start) / _SAVING_SHARE

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Save if something was suggested or came back since the last time, unless that was just now."""
        seen = (len(trials), self._target.num_running)
        if seen != self._seen and time.monotonic() >= self._next_time:
            self._seen = seen
            self.save()


class _Interrupt(tune.Stopper):
    """Stops all trials once it is set."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        return self.is_set


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Turn the first interrupt of the block into a wish to stop; the second one interrupts as ever."""
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def set_once(number: int, frame: FrameType | None) -> None:
        if interrupt.is_set:
            raise KeyboardInterrupt
        interrupt.is_set = True

    before = signal.signal(signal.SIGINT, set_once)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
