"""A search with one Tune trial per candidate, recorded in a run directory; a run that was broken off goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.stopper import CombinedStopper
from rich.console import Console

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.records import RunDirectory
from nasray.records.files import check_name
from nasray.strategies.strategy import Strategy, Trial
from nasray.tune.batch_search import note_budget
from nasray.tune.candidate_result import CANDIDATE_ID
from nasray.tune.candidate_trial import CandidateTrial, EvaluatorFactory
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.crash_watch import CrashWatch
from nasray.tune.deadline import GRACE_S
from nasray.tune.disk_space import DiskWatch
from nasray.tune.driver_callback import DriverCallback
from nasray.tune.ended_trials import BugLogs, ForgetEndedTrials, NoTrialLines
from nasray.tune.energy.account import BudgetStopper, ClusterAccount
from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.failure_limit import FailureLimit, FailureStopper
from nasray.tune.interrupt import interruptible
from nasray.tune.progress import StageProgress
from nasray.tune.resume_search import JournalledStrategy
from nasray.tune.run_storage import RunStorage
from nasray.tune.search_record import STAGE, evaluation_row, recorded_evaluation
from nasray.tune.shared_folder import check_shared
from nasray.tune.stage_callbacks import CopyRecords
from nasray.tune.storage_folder import StorageFolder
from nasray.tune.strategy_searcher import StrategySearcher
from nasray.tune.workers import Workers

OnEvaluation = Callable[[Trial, Evaluation], None]


def run_search(
    strategy: Strategy,
    evaluator_factory: EvaluatorFactory,
    *,
    workers: Workers,
    run: RunDirectory,
    formulation: Formulation | None = None,
    timeout_s: float | None = None,
    grace_s: float = GRACE_S,
    max_retries: int = 1,
    max_failures: int | None = None,
    account: ClusterAccount | None = None,
    callbacks: Sequence[tune.Callback] = (),
    on_evaluation: OnEvaluation | None = None,
    progress: StageProgress | None = None,
    storage: RunStorage | None = None,
) -> ParetoArchive:
    """Search until the strategy is finished, on the Ray that is up, and return what was found.

    Every evaluation is in `evaluations.jsonl` before the strategy is told. A run directory that holds an unfinished
    search is continued, whatever ended it: the strategy is brought back to where it was (see `JournalledStrategy`),
    recorded evaluations are told and not made again, and candidates that were out are evaluated anew. With one worker
    and an evaluator that always says the same, the search asks for what it would have asked for uninterrupted.

    An interrupt (Ctrl-C) ends the trials, saves the state and raises KeyboardInterrupt; a second one does so at once,
    with what was saved last.

    Args:
        strategy: What to ask; to continue, made with the same arguments as before.
        evaluator_factory: Makes what evaluates an architecture; called once in each worker.
        workers: How many candidates at a time, and the resources of each.
        run: Where to record; create it with `resume=True` to continue.
        formulation: Objectives and constraints of the archive; by default the strategy's own.
        timeout_s: How long a candidate may take, in seconds; None for no limit.
        grace_s: How much longer native code may take before its worker is ended, in seconds.
        max_retries: How often a candidate is tried again after its worker crashed; not if it took too long.
        max_failures: How many candidates in a row may fail until the search ends; None as `FailureLimit.of` says.
        account: Of the run's energy, started: every candidate is charged, and a budget that is used up ends the
            search as if it were done; candidates that are out then are evaluated anew if it is continued.
        callbacks: More of Ray's callbacks, such as a `HardwareCostCallback`.
        on_evaluation: Told of every new evaluation after it is recorded, to show progress.
        progress: What shows the run's figures; by default they stand in Ray's metrics alone.
        storage: Where a copy of the records is kept. Candidates have no checkpoints, so with it nodes share nothing.

    Raises:
        ValueError: If no formulation is known, the records cannot be read or written, or a node of the cluster does
            not see the run directory.
        KeyboardInterrupt: If it was interrupted.
        DiskError: If the disk takes no more, or the run has used what it may.
        TooManyFailuresError: If too many candidates in a row failed; continued, the search counts anew.
    """
    formulation = formulation or getattr(strategy, "formulation", None)
    if formulation is None:
        raise ValueError(f"`formulation` must be given, as {type(strategy).__name__} has none of its own.")
    archive = ParetoArchive(formulation)
    journal = JournalledStrategy(strategy, run.path)
    limit = FailureLimit.of(max_failures, workers.count)
    watch, disk = CrashWatch(timeout_s, grace_s=2 * grace_s), DiskWatch(run)
    progress = progress or StageProgress(Console(), is_quiet=True)
    progress.follow(run.path.resolve().name, account)
    progress.aim(formulation)
    run.aim([objective.to_json() for objective in formulation.objectives])
    record = _Record(run, archive, journal, _all(limit, progress, on_evaluation))
    searcher = _RecordedSearcher(
        journal,
        metrics=formulation.metrics,
        max_concurrent=workers.count,
        max_retries=max_retries,
        record=record,
        crash_of=watch.crash,
    )
    rows = record.rows()
    for row in rows:
        progress.evaluated(row["trial_id"], recorded_evaluation(row))
    _go_on(searcher, journal, rows, run)
    if storage is None:
        check_shared(StorageFolder.local(run.path))
    start, started = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        if not strategy.is_finished:
            with disk.telling(), interruptible() as interrupt, closing(BugLogs()) as logs:
                charged = [EnergyCallback(stage=STAGE, account=account)] if account else []
                stop = CombinedStopper(interrupt, disk, BudgetStopper(account), FailureStopper(limit))
                followed = progress.trials(1, workers.count)
                copied = [CopyRecords(storage)] if storage else []
                saved = [_StateSaver(journal), *copied]
                hooks = [watch, disk, *charged, *callbacks, *saved, followed, logs, NoTrialLines()]
                trainable = tune.with_parameters(
                    CandidateTrial,
                    evaluator_factory=evaluator_factory,
                    metrics=searcher.metrics,
                    timeout_s=timeout_s,
                    grace_s=grace_s,
                )
                _tuner(searcher, trainable, workers, run, hooks, stop).fit()
            if interrupt.is_set:
                raise KeyboardInterrupt
            limit.raise_if_reached()
    finally:
        journal.save()
        run.add_stage(STAGE, time.perf_counter() - start, started=started, device=workers.device)
        if storage is not None:
            storage.push()
    if not strategy.is_finished:
        note_budget(run, account)
    return archive


def _tuner(
    searcher: StrategySearcher,
    trainable: Any,
    workers: Workers,
    run: RunDirectory,
    callbacks: Sequence[tune.Callback],
    stop: tune.Stopper,
) -> tune.Tuner:
    bundle = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    storage = (run.path / "ray").resolve()
    return tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([bundle])),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=ForgetEndedTrials(),
            num_samples=-1,
            # Ray starts as many actors at once; the searcher itself keeps the limit.
            max_concurrent_trials=workers.count,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=CheckpointStore.local(storage).next_attempt(STAGE),
            storage_path=str(storage),
            callbacks=list(callbacks),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
            stop=stop,
            verbose=0,
        ),
    )


def _all(limit: FailureLimit, progress: StageProgress, then: OnEvaluation | None) -> OnEvaluation:
    def note(trial: Trial, evaluation: Evaluation) -> None:
        limit(trial, evaluation)
        progress.evaluated(trial.trial_id, evaluation)
        if then is not None:
            then(trial, evaluation)

    return note


def _trial_name(trial: Any) -> str:
    return check_name(f"{trial.config[CANDIDATE_ID]}-{trial.trial_id}", "candidate")


def _go_on(
    searcher: StrategySearcher, journal: JournalledStrategy, rows: Sequence[dict[str, Any]], run: RunDirectory
) -> None:
    """Bring a search back to where it was; what was out is suggested again, and known evaluations are not made anew."""
    notices = journal.restore(rows)
    if rows and not (run.path / "ray").exists():
        notices.append(f"{run.path / 'ray'} is missing: logs of earlier trials are lost, their evaluations are not.")
    for sentence in notices:
        run.add_notice(sentence)
    searcher.requeue(journal.out.values())
    for row in rows:
        architecture = Architecture.from_json(row["architecture"])
        searcher.add_known(architecture, recorded_evaluation(row), candidate_id=row["trial_id"])


class _RecordedSearcher(StrategySearcher):
    """A searcher whose state is in the run directory; Ray's snapshots, which would hold all of it again, get none."""

    def save(self, checkpoint_path: str) -> None:
        """Write that there is nothing: Ray wants a file."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")


class _Record:
    """Writes evaluations to the run directory and adds them to the archive."""

    def __init__(
        self,
        run: RunDirectory,
        archive: ParetoArchive,
        journal: JournalledStrategy,
        on_evaluation: Callable[[Trial, Evaluation], None] | None,
    ) -> None:
        self._run, self._archive, self._journal, self._on_evaluation = run, archive, journal, on_evaluation

    def rows(self) -> list[dict[str, Any]]:
        """Return what an earlier run recorded, after adding it to the archive."""
        rows = [row for row in self._run.evaluations() if row.get("stage") == STAGE]
        for row in rows:
            self._archive.add(row["trial_id"], Architecture.from_json(row["architecture"]), recorded_evaluation(row))
        return rows

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        self._journal.flush()
        self._run.append_evaluations([evaluation_row(trial, evaluation)])
        self._archive.add(trial.trial_id, trial.architecture, evaluation)
        if self._on_evaluation is not None:
            self._on_evaluation(trial, evaluation)


class _StateSaver(DriverCallback):
    """Saves the search's state now and then."""

    def __init__(self, journal: JournalledStrategy) -> None:
        self._target = journal

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Save if it is time."""
        self._target.save_if_due()
