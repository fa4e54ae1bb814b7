import numpy as np
import pytest

from nasray.formulations import Pareto, Scalarised, TwoStage
from nasray.objectives import Constraint, Objective

ACCURACY = Objective(name="accuracy", direction="maximize", ideal=1.0)
LATENCY = Objective(name="latency_ms", unit="ms")
GENERATOR = np.random.default_rng(0)


def order(formulation, rows):
    values = np.stack([formulation.values(row) for row in rows])
    violations = np.array([formulation.violation(row) for row in rows])
    return formulation.order(values, violations, np.random.default_rng(0)).tolist()


def row(accuracy, latency):
    return {"accuracy": accuracy, "latency_ms": latency}


def test_pareto_puts_the_front_first_and_its_crowded_points_last() -> None:
    rows = [row(0.5, 9), row(0.9, 10), row(0.1, 0), row(0.6, 5), row(0.61, 5.1)]
    places = order(Pareto([ACCURACY, LATENCY]), rows)
    assert places[-1] == 0
    assert set(places[:2]) == {1, 2}


def test_constraints_come_before_quality_and_violations_decide_among_the_infeasible() -> None:
    formulation = Pareto([ACCURACY], [Constraint.parse("latency_ms<=5"), Constraint.parse("accuracy>=0.2")])
    rows = [row(0.9, 20), row(0.9, 6), row(0.5, 5), row(0.6, 4), row(0.1, 1)]
    assert order(formulation, rows) == [3, 2, 1, 4, 0]
    assert formulation.metrics == ("accuracy", "latency_ms")


def test_a_weighted_product_is_mnasnets_reward() -> None:
    weight, target = 0.07, 80.0
    rows = [row(0.75, 79), row(0.74, 60), row(0.76, 140), row(0.70, 20), row(0.3, 1)]
    rewards = [r["accuracy"] * (r["latency_ms"] / target) ** -weight for r in rows]
    formulation = Scalarised([ACCURACY, LATENCY], [[1, weight]], how="weighted_product")
    assert order(formulation, rows) == np.argsort([-reward for reward in rewards]).tolist()


def test_chebyshev_reaches_a_concave_front_and_the_weighted_sum_does_not() -> None:
    rows = [row(1.0, 10), row(0.4, 4.5), row(0.0, 0)]  # the middle lies above the line between the ends
    assert order(Scalarised([ACCURACY, LATENCY], [[1, 1]], how="chebyshev"), rows)[0] == 1
    sums = [order(Scalarised([ACCURACY, LATENCY], [[w, 1 - w]], how="weighted_sum"), rows)[0] for w in (0.2, 0.5, 0.8)]
    assert 1 not in sums


def test_several_weightings_take_turns() -> None:
    formulation = Scalarised([ACCURACY, LATENCY], [[1, 0], [0, 1]], how="weighted_sum")
    values = np.array([[-0.9, 10.0], [-0.5, 1.0]])
    firsts = [formulation.order(values, np.zeros(2), GENERATOR)[0] for _ in range(50)]
    assert {0, 1} == set(firsts)


def test_the_second_stage_chooses_among_those_close_to_the_best() -> None:
    rows = [row(0.90, 10), row(0.895, 5), row(0.88, 1), row(0.5, 0.1)]
    assert order(TwoStage([ACCURACY, LATENCY], tolerance=0.01), rows) == [1, 0, 2, 3]


@pytest.mark.parametrize(
    ("weightings", "message"),
    [([[1]], "rows of 2 finite weights"), ([[0, 0]], "a positive weight"), ([[-1, 2]], ">= 0"), ([], "rows of 2")],
)
def test_weights_that_do_not_fit_are_refused(weightings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Scalarised([ACCURACY, LATENCY], weightings)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pareto([])
    with pytest.raises(ValueError, match="different metrics"):
        Pareto([ACCURACY, ACCURACY])
    with pytest.raises(ValueError, match="at least two"):
        TwoStage([ACCURACY], tolerance=0.1)
    with pytest.raises(ValueError, match="`tolerance` must be at least 0"):
        TwoStage([ACCURACY, LATENCY], tolerance=-1)
    with pytest.raises(ValueError, match="`how` must be one of weighted_sum"):
        Scalarised([ACCURACY, LATENCY], [[1, 1]], how="magic")
    with pytest.raises(ValueError, match="positive metrics"):
        order(Scalarised([ACCURACY, LATENCY], [[1, 1]], how="weighted_product"), [row(0.0, 1)])


@pytest.mark.parametrize("text", ["latency_ms<5", "<=5", "latency_ms<=", "a<=b", "a<=nan", "a<=inf", "", "a<=1<=2"])
def test_constraints_that_do_not_read_are_refused(text) -> None:
    with pytest.raises(ValueError, match="must read like latency_ms<=5"):
        Constraint.parse(text)


def test_constraints_read_and_print() -> None:
    constraint = Constraint.parse(" latency_ms >= 1e-3 ")
    assert (constraint.metric, constraint.relation, constraint.limit) == ("latency_ms", ">=", 1e-3)
    assert str(constraint) == "latency_ms>=0.001"
    assert Constraint.parse("x<=0").violation({"x": 2.0}) == 2.0
    for text in ("parameters<=1234567", "parameters<=100000", "x>=0.1"):
        assert Constraint.parse(str(Constraint.parse(text))) == Constraint.parse(text)
