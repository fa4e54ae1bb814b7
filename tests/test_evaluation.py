import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from nasray.evaluation import Evaluation, metric_fault, metric_number

NUMBERS = [
    (0.5, 0.5),
    (3, 3.0),
    (np.float32(0.5), 0.5),
    (np.array([7]), 7.0),
    (np.int64(-2), -2.0),
    (torch.tensor(0.25), 0.25),
    (torch.ones(1, requires_grad=True), 1.0),
    (Fraction(1, 4), 0.25),
]

FAULTS = [
    (float("nan"), "accuracy is nan"),
    (np.float32("nan"), "accuracy is nan"),
    (torch.tensor(float("nan")), "accuracy is nan"),
    (-math.inf, "accuracy is -inf"),
    (10**400, "accuracy is inf"),
    ("0.9", "accuracy is '0.9', not a number"),
    (b"1", "accuracy is b'1', not a number"),
    (None, "accuracy is None, not a number"),
    (True, "accuracy is True, not a number"),
    (np.bool_(True), "accuracy is True, not a number"),
    (1 + 2j, "accuracy is (1+2j), not a number"),
    (torch.zeros(2), "accuracy is tensor([0., 0.]), not a number"),
    (np.arange(3), "accuracy is array([0, 1, 2]), not a number"),
    ([0.5], "accuracy is [0.5], not a number"),
    ("x" * 99, "accuracy is 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..., not a number"),
]


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=repr)
def test_numbers_of_any_kind_become_floats(value, number):
    assert metric_number(value) == number
    assert metric_fault("accuracy", value) is None
    metrics = Evaluation(metrics={"accuracy": value}).metrics
    assert json.loads(json.dumps(metrics)) == {"accuracy": number}


@pytest.mark.parametrize(("value", "fault"), FAULTS, ids=repr)
def test_what_is_no_finite_number_is_a_failed_evaluation_that_says_so(value, fault):
    assert metric_fault("accuracy", value) == fault
    evaluation = Evaluation.from_metrics({"accuracy": value, "loss": 1}, 2.0)
    assert (evaluation.status, evaluation.reason, evaluation.seconds) == ("failed", fault, 2.0)
    assert evaluation.metrics == {"loss": 1.0}
    with pytest.raises(ValueError, match="`metrics` of an ok evaluation must be finite numbers"):
        Evaluation(metrics={"accuracy": value})


def test_several_faults_are_all_named():
    metrics = {"accuracy": float("nan"), "loss": "low"}
    assert Evaluation.from_metrics(metrics, 0.0).reason == "accuracy is nan; loss is 'low', not a number"


def test_evaluation_that_is_not_ok_needs_a_reason_and_is_json_whatever_it_holds():
    with pytest.raises(ValueError, match="`reason` must say why the evaluation is infeasible"):
        Evaluation(status="infeasible")
    evaluation = Evaluation(status="failed", reason="nan", metrics={"a": math.nan, "b": "x", "c": 1})
    assert json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["metrics"] == {"c": 1.0}
    assert Evaluation(**evaluation.to_json()) == evaluation
