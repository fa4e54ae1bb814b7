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
from nasray.search.candidate_search import CandidateSearch
from nasray.tune.progress import StageProgress
from nasray.tune.search_record import STAGE, evaluation_row, recorded_evaluation

EvaluateAll = Callable[[Sequence[Architecture]], Sequence[Evaluation]]


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
) -> ParetoArchive:
    """Search until the strategy is finished, and return what was found.

    A batch is in `evaluations.jsonl` before the strategy is told. What the run has recorded already is in the archive,
    and is told instead of evaluated again; the strategy's own state is for the caller to keep.

    Args:
        strategy: What to ask.
        evaluate: Returns one evaluation for each architecture, in their order.
        run: Where to record.
        progress: What to show meanwhile.
        batch_size: Candidates to ask for before any of them is told.
        device: Where candidates are evaluated, for the record.
        formulation: Objectives and constraints of the archive; by default the strategy's own.
        account: Of the run's energy; its budget ends the search after the batch that uses it up.

    Raises:
        RuntimeError: If the strategy waits for results although no candidate is out.
    """
    archive, known = ParetoArchive(formulation or strategy.formulation), dict[str, Evaluation]()
    for row in run.evaluations():
        if row.get("stage") == STAGE:
            evaluation = recorded_evaluation(row)
            known[row["arch_id"]] = evaluation
            archive.add(row["trial_id"], Architecture.from_json(row["architecture"]), evaluation)
    start, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with progress.shown():
            bar = progress.bar(STAGE, strategy.num_evaluations)
            num_told = 0
            while not strategy.is_finished and not _is_spent(account):
                trials = list(islice(iter(strategy.ask, None), batch_size))
                if not trials and not strategy.is_finished:
                    raise RuntimeError(
                        "The strategy waits for candidates that nobody evaluates. Tell it of them first."
                    )
                new = [trial for trial in trials if trial.architecture.arch_id not in known]
                evaluations = evaluate([trial.architecture for trial in new])
                run.append_evaluations(list(map(evaluation_row, new, evaluations)))
                for trial, evaluation in zip(new, evaluations, strict=True):
                    known[trial.architecture.arch_id] = evaluation
                    archive.add(trial.trial_id, trial.architecture, evaluation)
                for trial in trials:
                    strategy.tell(trial.trial_id, known[trial.architecture.arch_id])
                num_told += len(trials)
                done = int(trials[-1].trial_id) + 1 if trials else strategy.num_evaluations
                bar.move(done, f"{num_told / bar.seconds:.0f} candidates/s, {len(archive.front)} on the front")
    finally:
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
