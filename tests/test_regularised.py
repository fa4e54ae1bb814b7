"""The regularised fitness, and the evolution that it steers."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasray.evaluation import Evaluation
from nasray.objectives import Constraint, Objective
from nasray.regularised import Regularised
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.evolution import AsynchronousEvolution

ACCURACY = Objective(name="accuracy", direction="maximize", ideal=1.0)


def order(formulation, rows):
    values = np.stack([formulation.values(row) for row in rows])
    violations = np.array([formulation.violation(row) for row in rows])
    return formulation.order(values, violations, np.random.default_rng(0)).tolist()


def row(accuracy, carbon, macs=0.0):
    return {"accuracy": accuracy, "carbon_g": carbon, "macs": macs}


def test_fitness_is_the_objective_less_the_price_of_the_rest() -> None:
    rows = [row(0.9, 100, 4e6), row(0.8, 20, 1e6), row(0.85, 60, 1e6), row(0.7, 10, 1e6)]
    fitness = [r["accuracy"] - 0.2 * r["carbon_g"] / 100 - 0.01 * r["macs"] / 1e6 for r in rows]
    formulation = Regularised(ACCURACY, [("carbon_g", 0.2, 100.0), ("macs", 0.01, 1e6)])
    assert order(formulation, rows) == np.argsort([-value for value in fitness]).tolist()
    np.testing.assert_allclose(
        formulation.scalars(np.stack([formulation.values(r) for r in rows])), np.negative(fitness)
    )


def test_a_minimised_objective_pays_as_well() -> None:
    formulation = Regularised(Objective(name="error"), [("carbon_g", 1.0, 10.0)])
    assert order(formulation, [{"error": 1.0, "carbon_g": 20.0}, {"error": 2.5, "carbon_g": 1.0}]) == [1, 0]


def test_a_weight_of_0_leaves_the_objective_alone() -> None:
    rows = [row(0.8, 1), row(0.9, 1e9), row(0.7, 0)]
    assert order(Regularised(ACCURACY, [("carbon_g", 0.0, 1.0)]), rows) == [1, 0, 2]


def test_constraints_come_before_fitness_and_metrics_are_named() -> None:
    formulation = Regularised(
        ACCURACY, [("carbon_g", 0.1, 10.0)], [Constraint.parse("carbon_g<=50"), Constraint.parse("macs<=9")]
    )
    assert formulation.metrics == ("accuracy", "carbon_g", "macs")
    assert order(formulation, [row(0.99, 100), row(0.5, 50), row(0.9, 60)]) == [1, 2, 0]


def test_the_order_of_a_pair_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    rows = [row(*pair) for pair in zip(rng.random(30), 100 * rng.random(30), strict=True)]
    formulation = Regularised(ACCURACY, [("carbon_g", 0.3, 100.0)])
    places = np.argsort(order(formulation, rows))
    for first, second in rng.integers(30, size=(50, 2)):
        if first != second:
            alone = order(formulation, [rows[first], rows[second]])
            assert (alone == [0, 1]) == (places[first] < places[second])


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "`terms` must have"),
        ([("carbon_g", -1.0, 1.0)], "weight of 'carbon_g'"),
        ([("carbon_g", float("inf"), 1.0)], "weight of 'carbon_g'"),
        ([("carbon_g", 1.0, 0.0)], "scale of 'carbon_g'"),
        ([("accuracy", 1.0, 1.0)], "must be different metrics"),
        ([("carbon_g", 1.0, 1.0), ("carbon_g", 1.0, 1.0)], "must be different metrics"),
    ],
)
def test_terms_that_do_not_fit_are_refused(terms, message) -> None:
    with pytest.raises(ValueError, match=message):
        Regularised(ACCURACY, terms)


def evolve(space, weight, scale, *, accuracy, carbon, num_evaluations, seed=0):
    """Return accuracy and carbon of the fittest network that an evolution finds."""
    formulation = Regularised(Objective(name=accuracy, direction="maximize"), [(carbon, weight, scale)])
    search = AsynchronousEvolution(
        space, formulation, num_evaluations=num_evaluations, generator=np.random.default_rng(seed)
    )
    seen = []
    while trial := search.ask():
        metrics = space.metrics(trial.architecture)
        seen.append(metrics)
        search.tell(trial.trial_id, Evaluation(metrics=metrics))
    best = seen[order(formulation, seen)[0]]
    return best[accuracy], best[carbon]


def test_evolution_shifts_to_lower_carbon_as_the_weight_grows() -> None:
    frame = pd.DataFrame([(a, b, c) for a in range(12) for b in range(12) for c in range(12)], columns=list("abc"))
    frame["carbon_g"] = 1.0 * frame.a + frame.b + frame.c
    frame["accuracy"] = 1 - 1 / (1 + frame.carbon_g)
    space = TabularSpace(frame, architecture="a,b,c", metrics=["accuracy", "carbon_g"])
    found = [
        evolve(space, weight, 100.0, accuracy="accuracy", carbon="carbon_g", num_evaluations=300)[1]
        for weight in (0.0, 1.0, 4.0, 25.0)
    ]
    # The best carbon c of 1 - 1/(1 + c) - w c / 100 is 10/sqrt(w) - 1: 9, 4 and 1; without a price all there is, 33.
    assert found == [33, 9, 4, 1]


@pytest.mark.data
def test_evolution_in_nasbench201_shifts_to_lower_carbon_as_the_weight_grows() -> None:
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    path = Path(os.environ["NASRAY_DATA"]) / "nasbench201" / "nasbench201.parquet"
    if not path.is_file():
        pytest.skip(f"NASRAY_DATA has no {path.parent.name}/{path.name}")
    frame = pd.read_parquet(path, columns=["arch_str", "c10_test_acc_200ep", "c10_flops_M"])
    # 1e9 inferences at 10 pJ per multiply-add and 369 g/kWh, in g.
    frame["carbon_g"] = frame["c10_flops_M"] * 1e6 * 10e-12 * 1e9 / 3.6e6 * 369
    space = TabularSpace(frame, architecture="arch_str", metrics=["c10_test_acc_200ep", "carbon_g"])
    found = [
        evolve(space, weight, 100.0, accuracy="c10_test_acc_200ep", carbon="carbon_g", num_evaluations=400)
        for weight in (0.0, 1.0, 4.0, 20.0)
    ]
    accuracies, carbons = zip(*found, strict=True)
    assert list(carbons) == sorted(carbons, reverse=True)
    assert carbons[-1] < 0.5 * carbons[0]
    assert accuracies[0] > 94
    assert accuracies[0] > accuracies[-1]


def test_it_says_what_it_prices() -> None:
    wanted = Regularised(Objective(name="accuracy", direction="maximize"), [("carbon_g", 0.01, 2.0)])
    assert wanted.describe() == "maximize accuracy, price 0.01 per 2 carbon_g"
