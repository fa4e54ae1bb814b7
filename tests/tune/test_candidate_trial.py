import subprocess
import sys
import time

import pytest
import torch

from nasray.evaluation import Evaluation
from nasray.spaces.cell import CellSpace
from nasray.training.trainer import DivergedError
from nasray.tune.candidate_trial import CandidateTrial, evaluate_candidate
from nasray.tune.deadline import deadline
from nasray.tune.strategy_searcher import StrategySearcher

SMALLEST = CellSpace().smallest()


def raises(error):
    def evaluate(architecture):
        raise error

    return evaluate


def test_evaluation_keeps_its_figures_and_gets_a_time():
    evaluation = evaluate_candidate(lambda a: Evaluation(metrics={"accuracy": 0.5}), SMALLEST, 60.0)
    assert evaluation.metrics == {"accuracy": 0.5}
    assert evaluation.seconds > 0
    assert evaluate_candidate(lambda a: Evaluation(seconds=7.0), SMALLEST).seconds == 7.0


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError(), "infeasible", "out of memory: no details"),
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), "infeasible", "out of memory: Tried to allocate 2 GiB"),
        (DivergedError("The loss of epoch 3 is nan."), "failed", "diverged: The loss of epoch 3 is nan."),
        (TimeoutError("no answer"), "failed", "time-out: no answer"),
        (ValueError("shapes do not fit"), "failed", "ValueError: shapes do not fit (test_candidate_trial.py:"),
    ],
)
def test_what_is_wrong_with_a_candidate_is_its_evaluation(error, status, reason):
    evaluation = evaluate_candidate(raises(error), SMALLEST)
    assert evaluation.status == status
    assert evaluation.reason.startswith(reason)


@pytest.mark.parametrize("found", [None, {"accuracy": 0.5}, 0.5])
def test_evaluator_that_returns_something_else_fails(found):
    evaluation = evaluate_candidate(lambda a: found, SMALLEST)
    kind = "None" if found is None else f"a {type(found).__name__}"
    assert evaluation.reason == f"the evaluator returned {kind} instead of an Evaluation"


def test_worker_that_may_be_to_blame_ends():
    with pytest.raises(RuntimeError, match="device-side assert"):
        evaluate_candidate(raises(RuntimeError("CUDA error: device-side assert triggered")), SMALLEST)


def test_slow_candidate_is_ended():
    start = time.perf_counter()
    evaluation = evaluate_candidate(lambda a: time.sleep(60), SMALLEST, 0.1)
    assert evaluation.reason == "time-out: took longer than 0.1 s"
    assert time.perf_counter() - start < 30
    time.sleep(0.2)  # nothing is left that would fire


HANGS = """
import itertools, time
from nasray.tune.deadline import deadline
with deadline(0.1, grace_s=0.2):
    while True:
        try:
            {how}
        except TimeoutError:
            pass
"""


@pytest.mark.parametrize("how", ["time.sleep(60)", "sum(itertools.repeat(0))"], ids=["python", "native"])
def test_candidate_that_ignores_its_deadline_ends_the_process(how):
    """Native code here looks at no signal and holds the interpreter's lock, so that no thread of Python can act."""
    ended = subprocess.run(
        [sys.executable, "-c", HANGS.format(how=how)], check=False, timeout=60, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "most recent call first" in ended.stderr


def test_deadline_must_be_positive():
    with pytest.raises(ValueError, match="`timeout_s` must be positive"), deadline(0.0):
        pass


def test_trial_reports_a_full_row_and_goes_on_with_the_same_evaluator():
    made = []

    def factory():
        made.append(1)
        return raises(MemoryError("8 GiB"))

    class Space:
        metrics = ("accuracy", "latency_ms")

    strategy = type("Fixed", (), {"formulation": Space, "is_finished": False})()
    searcher = StrategySearcher(strategy)
    trial = CandidateTrial.__new__(CandidateTrial)
    trial.setup({}, evaluator_factory=factory, metrics=searcher.metrics)
    for _ in range(2):
        trial.config = {"candidate_id": "0", "architecture": '{"space":"cell","choices":{}}'}
        assert trial.reset_config(trial.config)
        result = trial.step()
        assert result["done"]
        assert result["status"] == "infeasible"
        assert result["reason"] == "out of memory: 8 GiB"
        assert "traceback" not in result
        assert result["accuracy"] != result["accuracy"]
        assert result["seconds"] > 0
    assert made == [1]


def test_traceback_of_a_bug_is_in_the_trials_result():
    trial = CandidateTrial.__new__(CandidateTrial)
    trial.setup({}, evaluator_factory=lambda: raises(KeyError("layer3")), metrics=["accuracy"])
    trial.config = {"candidate_id": "0", "architecture": '{"space":"cell","choices":{}}'}
    result = trial.step()
    assert result["reason"].startswith("KeyError: 'layer3'")
    assert "in evaluate" in result["traceback"]


def test_trial_without_a_factory_is_refused():
    with pytest.raises(ValueError, match="`evaluator_factory` must be given"):
        CandidateTrial.__new__(CandidateTrial).setup({})
