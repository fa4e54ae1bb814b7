"""A search whose candidates all fail ends with a result that says so, and can go on."""

import numpy as np
import pytest

from nasray.evaluation import Evaluation
from nasray.hardware.analytic import Macs
from nasray.spaces.mobile import MobileSpace
from nasray.strategies.coordinate_descent import CoordinateDescent, CoordinateDescentConfig
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.search_trial import SearchTask, SearchTrial
from nasray.tune.workers import Workers


class Pool:
    """Evaluates here, until the limit is reached."""

    def __init__(self, limit, evaluate):
        self.limit, self.evaluate_one = limit, evaluate

    def evaluate(self, architectures):
        found = []
        for architecture in architectures:
            found.append(None if self.limit.is_reached else self.evaluate_one(architecture))
            if found[-1] is not None:
                self.limit.note(architecture.arch_id, found[-1])
        return found


@pytest.fixture
def trial_of(network):
    space = MobileSpace(network)

    def make(evaluate, most):
        trial = SearchTrial.__new__(SearchTrial)
        cost = Macs(space)
        descent = CoordinateDescentConfig(target=0.5 * cost(space.largest()).value, num_samples=6, first_reduction=0.1)
        trial.task = SearchTask(
            network=network,
            weights=None,
            data=None,
            cost=cost,
            descent=descent,
            candidates=None,
            workers=Workers(count=1, cpus=1, gpus=0),
            seed=0,
        )
        trial.name_, trial.space, trial.limit = "search", space, FailureLimit(most)
        trial.strategy = CoordinateDescent(space, lambda a: cost(a).value, descent, np.random.default_rng(0))
        trial.pool, trial.ended_by = Pool(trial.limit, evaluate), None
        trial.known, trial.last_rows, trial.carried_rows = {}, [], []
        return trial

    return make


def good(architecture):
    return Evaluation(metrics={"accuracy": int(architecture.arch_id[:4], 16) / 65536, "loss": 1.0})


def bad(architecture):
    return Evaluation(status="failed", reason="accuracy is nan")


@pytest.mark.parametrize(("most", "num_rows", "sentence"), [(3, 3, "3 failed candidates in a row"), (99, 7, "All 6")])
def test_search_in_which_all_fails_ends_and_is_tried_again(trial_of, tmp_path, most, num_rows, sentence):
    trial = trial_of(bad, most)
    result = trial.step()
    assert result["done"]
    assert sentence in result["ended_by"]
    assert len(result["evaluations"]) == num_rows
    trial.save_checkpoint(str(tmp_path))

    again, never_broken = trial_of(good, most), trial_of(good, most)
    again.load_checkpoint(str(tmp_path))
    result, expected = again.step(), never_broken.step()
    assert result["ended_by"] is None
    assert (result["architecture"], result["cost"]) == (expected["architecture"], expected["cost"])


def test_what_does_not_fit_is_not_tried_again_after_a_restart(trial_of, tmp_path):
    refused = Evaluation(status="infeasible", reason="out of memory: 2 GiB")
    trial, large = trial_of(good, 5), []

    def evaluate(architecture):
        if not large:
            large.append(architecture.arch_id)
        return refused if architecture.arch_id == large[0] else good(architecture)

    trial.pool.evaluate_one = evaluate
    trial.step()
    trial.save_checkpoint(str(tmp_path))
    again = trial_of(good, 5)
    again.load_checkpoint(str(tmp_path))
    assert again.known == {large[0]: refused}
