"""Which candidates count, what they are looked at for, and which no other beats."""

import numpy as np
import pytest

from nasray.objectives import Constraint, Objective
from nasray.report.candidates import Candidates

ACCURACY, MACS = Objective(name="accuracy", direction="maximize"), Objective(name="macs")


def row(number, status="ok", **metrics):
    return {"sample_id": f"s{number}", "arch_id": f"a{number}", "status": status, "metrics": metrics}


def drawn(count, seed=0):
    generator = np.random.default_rng(seed)
    rows = [row(n, accuracy=float(a), macs=float(m)) for n, (a, m) in enumerate(generator.random((count, 2)).round(2))]
    return Candidates(rows=rows, objectives=(ACCURACY, MACS))


def test_front_is_what_no_other_dominates():
    candidates = drawn(200)
    values = candidates.minimized(["accuracy", "macs"], np.arange(200))

    def beats(one, other):
        return (one <= other).all() and (one < other).any()

    expected = {tuple(v) for v in values if not any(beats(other, v) for other in values)}
    front = candidates.front(["accuracy", "macs"])
    assert {tuple(values[index]) for index in front} == expected
    assert len(front) == len(expected)
    accuracies = [candidates.metrics["accuracy"][index] for index in front]
    assert accuracies == sorted(accuracies)


def test_only_candidates_that_count_are_on_a_front():
    rows = [
        row(0, accuracy=0.5, macs=5),
        row(1, accuracy=0.9, macs=20),  # breaks the limit
        row(2, "infeasible", accuracy=0.9, macs=1),
        row(3, "failed", accuracy=0.9, macs=1),
        row(4, accuracy=0.99),
        row(5, accuracy=float("nan"), macs=1),
    ]
    candidates = Candidates(rows=rows, objectives=(ACCURACY, MACS), constraints=(Constraint.parse("macs<=10"),))
    assert candidates.kinds == ["ok", "infeasible", "infeasible", "failed", "ok", "ok"]
    assert candidates.front(["accuracy", "macs"]) == [0]
    assert candidates.broken(rows[1]) == [Constraint.parse("macs<=10")]


def test_objectives_of_which_some_candidates_have_none_are_not_shared():
    latency = Objective(name="latency_ms")
    rows = [row(0, accuracy=0.5, macs=5), row(1, accuracy=0.6, macs=6, latency_ms=1.0)]
    candidates = Candidates(rows=rows, objectives=(ACCURACY, MACS, latency))
    assert candidates.shared == [ACCURACY, MACS]
    assert candidates.measured == [ACCURACY, MACS, latency]
    alone = Candidates(rows=rows, objectives=(latency, MACS))
    assert alone.shared == [latency, MACS]  # better few candidates than one objective


@pytest.mark.parametrize(
    ("run", "front", "expected"),
    [
        (
            {"configuration": {"objectives": [{"name": "loss", "direction": "minimize", "unit": "", "ideal": None}]}},
            None,
            [("loss", "minimize", None)],
        ),
        (
            {"configuration": {"objectives": ["accuracy", "area"]}},
            {"objectives": [{"name": "area", "unit": "mm2", "direction": "maximize"}]},
            [("accuracy", "maximize", 1.0), ("area", "maximize", None)],
        ),
        (
            {"front_objectives": [{"name": "macs", "unit": "", "direction": "minimize"}]},
            None,
            [("macs", "minimize", None)],
        ),
        ({}, None, [("accuracy", "maximize", 1.0), ("macs", "minimize", None)]),
    ],
)
def test_objectives_come_from_where_the_run_names_them(run, front, expected):
    candidates = Candidates.of_run(run, front, [row(0, accuracy=0.5, macs=3, loss=1.0)])
    assert [(goal.name, goal.direction, goal.ideal) for goal in candidates.objectives] == expected


@pytest.mark.parametrize(("accuracies", "ideal"), [((0.2, 1.0), 1.0), ((0.9, 73.1), 100.0)])
def test_the_ideal_of_an_accuracy_is_on_its_own_scale(accuracies, ideal):
    rows = [row(number, accuracy=accuracy, macs=1) for number, accuracy in enumerate(accuracies)]
    (goal, _) = Candidates.of_run({"configuration": {"objectives": ["accuracy", "macs"]}}, None, rows).objectives
    assert goal.ideal == ideal


def test_other_stages_are_no_candidates():
    rows = [row(0, accuracy=0.5), row(1, accuracy=0.6) | {"stage": "final"}]
    assert [r["arch_id"] for r in Candidates.of_run({}, None, rows).rows] == ["a0"]
