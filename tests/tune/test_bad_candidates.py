"""What bad candidates come to through Ray: in a Tuner of one's own, and in `run_search`."""

import json

import numpy as np
import pytest
from ray import tune

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.candidate_result import candidate_architecture
from nasray.tune.candidate_search_run import run_search
from nasray.tune.crash_watch import CrashWatch
from nasray.tune.failure_limit import FailureLimit, FailureStopper, TooManyFailuresError
from nasray.tune.newest_first import NewestTrialFirst
from nasray.tune.strategy_searcher import StrategySearcher
from nasray.tune.workers import Workers

pytestmark = pytest.mark.ray

OBJECTIVES = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="latency_ms")])
WORKERS = Workers(count=2, cpus=1, gpus=0)

REASONS = {
    "nan": "accuracy is nan",
    "infinite": "accuracy is inf",
    "text": "accuracy is '0.9', not a number",
    "nothing": "accuracy is None, not a number",
    "truth": "accuracy is True, not a number",
    "complex": "accuracy is (1+2j), not a number",
    "huge": "accuracy is inf",
    "array": "accuracy is array([0.1, 0.2]), not a number",
    "missing": "the result has no accuracy",
    "wrong name": "the result has no accuracy, but acc",
    "exception": "ValueError: shapes do not fit",
}
"""How the reason begins that is recorded of each kind of bad candidate."""


def random_search(num_evaluations):
    return RandomSearch(CellSpace(), OBJECTIVES, num_evaluations=num_evaluations, generator=np.random.default_rng(0))


@pytest.fixture
def metrics_of():
    """Returns the metrics of a kind of candidate, or raises; by value for the workers."""

    def metrics(kind):
        import numpy

        if kind == "exception":
            raise ValueError("shapes do not fit")
        values = {
            "nan": float("nan"),
            "infinite": float("inf"),
            "text": "0.9",
            "nothing": None,
            "truth": True,
            "complex": 1 + 2j,
            "huge": 10**400,
            "array": numpy.array([0.1, 0.2]),
            "good": numpy.float32(0.5),
        }
        if kind == "missing":
            return {"latency_ms": 1.0}
        return {"acc" if kind == "wrong name" else "accuracy": values.get(kind, 0.5), "latency_ms": 1.0}

    return metrics


def check(evaluations):
    """Compare statuses and reasons by kind; `good` ones have no reason."""
    for kind, (status, reason) in evaluations.items():
        assert status == ("ok" if kind == "good" else "failed"), kind
        assert (reason or "").startswith(REASONS.get(kind, "")), kind


def test_results_that_are_none_in_a_tuner_of_ones_own(cluster, metrics_of, tmp_path):
    kinds = [*REASONS, "good"]
    strategy = random_search(len(kinds))

    def trainable(config):
        tune.report(metrics_of(kinds[int(config["candidate_id"])]))

    watch = CrashWatch()
    searcher = StrategySearcher(strategy, max_retries=0, crash_of=watch.crash)
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=NewestTrialFirst(),
            num_samples=-1,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0, callbacks=[watch]),
    ).fit()
    told = dict(strategy.state_dict()["results"])
    assert strategy.is_finished
    check({kind: (told[str(n)]["status"], told[str(n)]["reason"]) for n, kind in enumerate(kinds)})


def test_results_that_are_none_in_a_recorded_search(cluster, metrics_of, tmp_path):
    kinds = ["good", *REASONS, "no evaluation"]
    asked = random_search(len(kinds))
    kind_of = {asked.ask().architecture.arch_id: kind for kind in kinds}

    def factory():
        def evaluate(architecture):
            kind = kind_of[architecture.arch_id]
            if kind == "no evaluation":
                return None
            if kind == "text":
                return Evaluation(metrics=metrics_of(kind))
            return Evaluation.from_metrics(metrics_of(kind), 0.0)

        return evaluate

    run = directory(tmp_path / "run")
    archive = run_search(random_search(len(kinds)), factory, workers=WORKERS, run=run, max_failures=50)
    found = {kind_of[row["arch_id"]]: (row["status"], row["reason"]) for row in run.evaluations()}
    assert len(found) == len(run.evaluations()) == len(kinds)
    assert found.pop("no evaluation") == ("failed", "the evaluator returned None instead of an Evaluation")
    # Refused where it is made, with the line that did it.
    assert "ValueError: `metrics` of an ok evaluation must be finite numbers" in found.pop("text")[1]
    check(found)
    assert [solution.evaluation.metrics["accuracy"] for solution in archive.front] == [0.5]
    logs = [json.loads(path.read_text().splitlines()[-1]) for path in run.path.glob("ray/*/*/result.json")]
    assert sum("in evaluate" in log.get("traceback", "") for log in logs) == 2


def directory(path):
    return RunDirectory.create(
        path, method="test", preset="test", configuration={}, seed=0, data={}, resume=path.exists()
    )


def test_search_in_which_all_fails_ends_and_goes_on_once_mended(cluster, tmp_path):
    def factory_of(is_mended):
        def factory():
            def evaluate(architecture):
                if is_mended:
                    return Evaluation(metrics={"accuracy": 0.5, "latency_ms": 1.0})
                raise ValueError("shapes do not fit")

            return evaluate

        return factory

    run, num_evaluations = directory(tmp_path / "run"), 40
    with pytest.raises(TooManyFailuresError, match=r"ended after \d+ failed candidates in a row: .* such as"):
        run_search(random_search(num_evaluations), factory_of(False), workers=WORKERS, run=run, max_failures=4)
    num_recorded = len(run.evaluations())
    # What another worker has in hand meanwhile may come back, too.
    assert 4 <= num_recorded <= 8
    assert {row["status"] for row in run.evaluations()} == {"failed"}

    run, strategy = directory(tmp_path / "run"), random_search(num_evaluations)
    archive = run_search(strategy, factory_of(True), workers=WORKERS, run=run, max_failures=4)
    rows = run.evaluations()
    assert strategy.is_finished
    assert len(rows) == archive.num_evaluations == num_evaluations
    # What failed is on record and not tried again.
    assert sum(row["status"] == "ok" for row in rows) == num_evaluations - num_recorded


def test_limit_ends_a_tuner_of_ones_own(cluster, tmp_path):
    strategy, limit = random_search(500), FailureLimit(3)

    def trainable(config):
        candidate_architecture(config)
        tune.report({"accuracy": float("nan"), "latency_ms": 1.0})

    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(strategy, record=limit), num_samples=-1, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0, stop=FailureStopper(limit)),
    ).fit()
    with pytest.raises(TooManyFailuresError, match="after 3 failed candidates in a row: accuracy is nan"):
        limit.raise_if_reached()
    assert not strategy.is_finished
