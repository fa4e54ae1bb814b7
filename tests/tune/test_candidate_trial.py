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
    ("error", "reason"),
    [
        (MemoryError(), "out of memory: no details"),
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), "out of memory: Tried to allocate 2 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate\n memory"), "out of memory: DefaultCPUAllocator"),
        (RuntimeError("CUDA error: out of memory"), "out of memory: CUDA error"),
        (DivergedError("The loss of epoch 3 is nan."), "diverged: The loss of epoch 3 is nan."),
        (TimeoutError("no answer"), "time-out: no answer"),
    ],
)
def test_what_candidates_do_wrong_is_a_failed_evaluation(error, reason):
    evaluation = evaluate_candidate(raises(error), SMALLEST)
    assert evaluation.status == "failed"
    assert evaluation.reason.startswith(reason)


@pytest.mark.parametrize("error", [ValueError("bug"), RuntimeError("shapes do not fit"), KeyError("memory")])
def test_bugs_are_not_candidates_failures(error):
    with pytest.raises(type(error), match=r"bug|shapes|memory"):
        evaluate_candidate(raises(error), SMALLEST)


def test_slow_candidate_is_ended():
    start = time.perf_counter()
    evaluation = evaluate_candidate(lambda a: time.sleep(60), SMALLEST, 0.1)
    assert evaluation.reason == "time-out: took longer than 0.1 s"
    assert time.perf_counter() - start < 30
    time.sleep(0.2)  # nothing is left that would fire


def test_candidate_that_ignores_its_deadline_ends_the_process():
    code = """
import time
from nasray.tune.deadline import deadline
with deadline(0.1, grace_s=0.2):
    while True:
        try:
            time.sleep(60)
        except TimeoutError:
            pass
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 1


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
        assert result["status"] == "failed"
        assert result["reason"] == "out of memory: 8 GiB"
        assert result["accuracy"] != result["accuracy"]
        assert result["seconds"] > 0
    assert made == [1]


def test_trial_without_a_factory_is_refused():
    with pytest.raises(ValueError, match="`evaluator_factory` must be given"):
        CandidateTrial.__new__(CandidateTrial).setup({})
