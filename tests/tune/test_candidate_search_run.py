import os
import shutil
import signal

import numpy as np
import pytest

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.strategy import Strategy
from nasray.tune.candidate_search_run import run_search
from nasray.tune.resume_search import JOURNAL, STATE
from nasray.tune.workers import Workers

OBJECTIVES = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")])
WORKERS = Workers(count=2, cpus=1, gpus=0)
TIMEOUT_S = 3.0  # candidates take a millisecond, and those that hang do so for ever


def evolution(num_evaluations=24):
    generator = np.random.default_rng(0)
    return AsynchronousEvolution(
        CellSpace(), OBJECTIVES, num_evaluations=num_evaluations, generator=generator, population_size=6
    )


def directory(path):
    return RunDirectory.create(
        path, method="test", preset="test", configuration={}, seed=0, data={}, resume=path.exists()
    )


def figures(arch_id):
    return {"accuracy": int(arch_id[:4], 16) / 65536, "latency_ms": float(int(arch_id[4:6], 16))}


@pytest.fixture
def factory():
    """Makes evaluators, by value for the workers; one candidate in seven fails, each in its way."""

    def make():
        made_by = float(os.getpid())

        def evaluate(architecture):
            arch_id = architecture.arch_id
            how = int(arch_id, 16) % 28
            if how == 0:
                raise MemoryError("too wide")
            if how == 7:
                return Evaluation(status="infeasible", reason="too slow")
            if how == 14:
                return Evaluation.from_metrics({"accuracy": float("nan"), "latency_ms": 1.0}, 1.0)
            if how == 21:
                import time

                while True:
                    time.sleep(60)
            metrics = {"accuracy": int(arch_id[:4], 16) / 65536, "latency_ms": float(int(arch_id[4:6], 16))}
            return Evaluation(metrics={**metrics, "made_by": made_by})

        return evaluate

    return make


@pytest.mark.ray
def test_search_records_every_evaluation_and_makes_one_evaluator_per_worker(cluster, factory, tmp_path):
    # Asks for the same candidates whatever comes of them, among them some of each kind.
    generator = np.random.default_rng(0)
    strategy = RandomSearch(CellSpace(), OBJECTIVES, num_evaluations=80, generator=generator)
    run = directory(tmp_path / "run")
    archive = run_search(strategy, factory, workers=WORKERS, run=run, timeout_s=TIMEOUT_S)
    rows = run.evaluations()
    assert strategy.is_finished
    assert archive.num_evaluations == len(rows) == 80
    assert len({row["arch_id"] for row in rows}) == 80
    for row in rows:
        how = int(row["arch_id"], 16) % 28
        assert row["status"] == {0: "infeasible", 7: "infeasible", 14: "failed", 21: "failed"}.get(how, "ok")
        if row["status"] == "ok":
            assert {name: row["metrics"][name] for name in ("accuracy", "latency_ms")} == figures(row["arch_id"])
    reasons = {row["reason"] for row in rows} - {None}
    assert reasons == {
        "out of memory: too wide",
        "too slow",
        "accuracy is nan",
        f"time-out: took longer than {TIMEOUT_S:g} s",
    }
    # Ray may replace an idle actor now and then, but does not make one per candidate.
    assert len({row["metrics"]["made_by"] for row in rows if row["status"] == "ok"}) <= 6
    assert {row["stage"] for row in rows} == {"search"}
    assert run.run["stages"][0]["name"] == "search"


@pytest.mark.ray
def test_interrupted_search_goes_on_without_evaluating_anything_twice(cluster, factory, tmp_path):
    run, seen = directory(tmp_path / "run"), []

    def interrupt(trial, evaluation):
        seen.append(trial.trial_id)
        if len(seen) == 8:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_search(evolution(), factory, workers=WORKERS, run=run, timeout_s=TIMEOUT_S, on_evaluation=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert 8 <= len(run.evaluations()) < 24

    strategy = evolution()
    archive = run_search(strategy, factory, workers=WORKERS, run=directory(tmp_path / "run"), timeout_s=TIMEOUT_S)
    rows = run.evaluations()
    assert strategy.is_finished
    assert sorted(int(row["trial_id"]) for row in rows) == list(range(24))
    assert archive.num_evaluations == 24
    assert len((run.path / "evaluations.jsonl").read_text().splitlines()) == 24

    again = run_search(evolution(), factory, workers=WORKERS, run=directory(tmp_path / "run"))
    assert [s.trial_id for s in again.front] == [s.trial_id for s in archive.front]
    assert len((run.path / "evaluations.jsonl").read_text().splitlines()) == 24


@pytest.mark.ray
def test_lost_state_is_made_up_from_the_records(cluster, factory, tmp_path):
    generator = np.random.default_rng

    def search(num_evaluations):
        strategy = RandomSearch(CellSpace(), OBJECTIVES, num_evaluations=num_evaluations, generator=generator(1))
        told = []
        run = directory(tmp_path / "run")
        run_search(
            strategy, factory, workers=WORKERS, run=run, timeout_s=TIMEOUT_S, on_evaluation=lambda t, e: told.append(t)
        )
        return strategy, told, run

    _, _, run = search(6)
    for name in (STATE, JOURNAL):
        (run.path / name).unlink()
    shutil.rmtree(run.path / "ray")
    strategy, told, run = search(10)
    assert strategy.is_finished
    assert len(told) == 4
    assert len(run.evaluations()) == 10
    assert len((run.path / "evaluations.jsonl").read_text().splitlines()) == 10
    begun_anew, no_logs = run.run["notices"]
    assert "the search begins anew and is told what is recorded" in begun_anew
    assert "ray is missing: logs of earlier trials are lost" in no_logs


def test_search_without_a_formulation_is_refused(tmp_path):
    class Bare(Strategy):
        is_finished = False
        ask = tell = state_dict = load_state_dict = None

    with pytest.raises(ValueError, match="`formulation` must be given"):
        run_search(Bare(), lambda: None, workers=WORKERS, run=directory(tmp_path / "run"))
