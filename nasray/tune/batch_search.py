"""A search whose evaluations take milliseconds: batches of candidates, recorded in a run directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.carbon.account import EnergyAccount
from nasray.carbon.budget import Spending
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.records import RunDirectory
from nasray.strategies.candidate_search import CandidateSearch
from nasray.tune.disk_space import DiskWatch
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.progress import StageProgress
from nasray.tune.resume_search import JournalledStrategy
from nasray.tune.run_storage import RunStorage
from nasray.tune.search_record import STAGE, evaluation_row, recorded_evaluation

EvaluateAll = Callable[[Sequence[Architecture]], Sequence[Evaluation | None]]
"""Gives None for those that were not evaluated, as too many in a row failed."""


def search_in_batches(
    strategy: CandidateSearch,
    evaluate: EvaluateAll,
    *,
    run: RunDirectory,
    progress: StageProgress,
    batch_size: int,
    device: str = "cpu",
    formulation: Formulation | None = None,
    account: EnergyAccount | None = None,
    limit: FailureLimit | None = None,
    storage: RunStorage | None = None,
) -> ParetoArchive:
    """Search until the strategy is finished, and return what was found.

    A batch is in `evaluations.jsonl` before the strategy is told. A run directory that holds an unfinished search is
    continued where it was (see `JournalledStrategy`): what is recorded is in the archive and is not evaluated again.

    Args:
        strategy: What to ask.
        evaluate: Returns one evaluation for each architecture, in their order.
        run: Where to record.
        progress: What to show meanwhile.
        batch_size: Candidates to ask for before any of them is told.
        device: Where candidates are evaluated, for the record.
        formulation: Objectives and constraints of the archive; by default the strategy's own.
        account: Of the run's energy; its budget ends the search after the batch that uses it up.
        limit: What `evaluate` tells of every evaluation; it ends the search after the batch that reaches it.
        storage: Where a copy of the records is kept.

    Raises:
        DiskError: If the disk takes no more, or the run has used what it may.
        TooManyFailuresError: If the limit was reached.
        RuntimeError: If the strategy waits for results although no candidate is out.
    """
    archive, known = ParetoArchive(formulation or strategy.formulation), dict[str, Evaluation]()
    rows = [row for row in run.evaluations() if row.get("stage") == STAGE]
    progress.follow(run.path.resolve().name, account)
    progress.aim(archive.formulation)
    run.aim([objective.to_json() for objective in archive.formulation.objectives])
    for row in rows:
        evaluation = recorded_evaluation(row)
        known[row["arch_id"]] = evaluation
        progress.evaluated(row["trial_id"], evaluation)
        archive.add(row["trial_id"], Architecture.from_json(row["architecture"]), evaluation)
    journal, disk = JournalledStrategy(strategy, run.path), DiskWatch(run)
    for sentence in journal.restore(rows):
        run.add_notice(sentence)
    start, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with progress.shown():
            bar = progress.bar(STAGE, strategy.num_evaluations, done=len(rows))
            num_told = 0
            while not strategy.is_finished and not _is_spent(account):
                if storage is not None:
                    storage.push_if_due()
                # What a killed process had asked for is a batch of its own, as it was then.
                trials = list(journal.out.values()) or list(islice(iter(journal.ask, None), batch_size))
                if not trials and not strategy.is_finished:
                    raise RuntimeError(
                        "The strategy waits for candidates that nobody evaluates. Tell it of them first."
                    )
                new = [trial for trial in trials if trial.architecture.arch_id not in known]
                evaluations = evaluate([trial.architecture for trial in new])
                journal.flush()
                made = [(trial, found) for trial, found in zip(new, evaluations, strict=True) if found is not None]
                run.append_evaluations([evaluation_row(trial, evaluation) for trial, evaluation in made])
                for trial, evaluation in made:
                    known[trial.architecture.arch_id] = evaluation
                    archive.add(trial.trial_id, trial.architecture, evaluation)
                    progress.evaluated(trial.trial_id, evaluation)
                for trial in (trial for trial in trials if trial.architecture.arch_id in known):
                    journal.tell(trial.trial_id, known[trial.architecture.arch_id])
                journal.save_if_due()
                disk.raise_if_full()
                if limit is not None:
                    limit.raise_if_reached()
                num_told += len(trials)
                done = int(trials[-1].trial_id) + 1 if trials else strategy.num_evaluations
                bar.move(done, f"{num_told / bar.seconds:.0f} candidates/s", f"{len(archive.front)} on the front")
    finally:
        journal.save()
        run.add_stage(STAGE, time.perf_counter() - start, started=started, device=device)
    if not strategy.is_finished:
        note_budget(run, account)
    return archive


def note_budget(run: RunDirectory, account: EnergyAccount | None, reserve: Spending | None = None) -> None:
    """Note in the record if the budget, less what is reserved for later, ended the search."""
    if account is not None and account.is_spent(reserve):
        run.add_notice(f"The search was ended by its budget ({account.budget.describe()}).")


def _is_spent(account: EnergyAccount | None) -> bool:
    if account is None:
        return False
    account.refresh()
    return account.is_spent()
