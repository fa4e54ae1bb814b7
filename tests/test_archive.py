import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Constraint, Objective
from nasray.pareto import front_indices, hypervolume

ACCURACY = Objective(name="accuracy", direction="maximize", ideal=1.0)
COST = Objective(name="cost")


def archive_of(rows, constraints=()):
    archive = ParetoArchive(Pareto([ACCURACY, COST], constraints))
    for number, (accuracy, cost) in enumerate(rows):
        metrics = {"accuracy": accuracy, "cost": cost}
        archive.add(str(number), Architecture.of("s", {"n": number}), Evaluation(metrics=metrics))
    return archive


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_the_front_grown_is_the_front_computed(rows) -> None:
    archive = archive_of(rows)
    assert sorted(s.number for s in archive.front) == front_indices([(-a, c) for a, c in rows])


def test_hypervolume_over_time_is_that_of_each_prefix() -> None:
    rows = np.random.default_rng(0).random((60, 2)).tolist()
    archive = archive_of(rows)
    history = archive.hypervolume_over_time([0.0, 1.0])
    for count, volume in history:
        assert volume == pytest.approx(hypervolume([(-a, c) for a, c in rows[:count]], [0.0, 1.0]))
    volumes = [volume for _, volume in history]
    assert volumes == sorted(volumes)
    assert volumes[-1] == archive.hypervolume([0.0, 1.0])


def test_failed_and_infeasible_evaluations_only_count() -> None:
    archive = archive_of([(0.9, 10.0), (0.5, 1.0)], [Constraint.parse("cost<=5")])
    archive.add("2", Architecture.of("s", {"n": 2}), Evaluation(status="failed", reason="hung"))
    assert archive.num_evaluations == 3
    assert [solution.number for solution in archive.front] == [1]


def test_best_trade_off_is_nearest_to_the_ideal() -> None:
    archive = archive_of([(0.95, 100.0), (0.93, 20.0), (0.3, 1.0)])
    assert archive.best_trade_off().number == 1
    assert archive.best_trade_off([1.0, 0.0]).number == 0
    assert archive.best_trade_off([0.0, 1.0]).number == 2


@pytest.mark.parametrize(
    ("accuracy_ideal", "cost_ideal", "weights", "nearest"),
    [
        # Squared distances of the three solutions, in shares of the largest distance from the ideal or the best:
        (None, None, [1.0, 1.0], 2),  # 0 + 1, 1 + 0.36, 0.0625 + 0.81
        (1.0, None, [1.0, 1.0], 1),  # 0.9216 + 1, 1 + 0.36, 0.9409 + 0.81
        (None, None, [0.2, 0.4], 2),  # 0 + 0.4, 0.2 + 0.144, 0.0125 + 0.324
        (None, 5.0, [0.2, 0.4], 1),  # 0 + 0.4, 0.2 + 0.016, 0.0125 + 0.256
    ],
)
def test_the_ideal_of_an_objective_moves_the_best_trade_off(accuracy_ideal, cost_ideal, weights, nearest) -> None:
    objectives = [
        Objective(name="accuracy", direction="maximize", ideal=accuracy_ideal),
        Objective(name="cost", ideal=cost_ideal),
    ]
    archive = ParetoArchive(Pareto(objectives))
    for number, (accuracy, cost) in enumerate([(0.52, 10.0), (0.50, 6.0), (0.515, 9.0)]):
        metrics = {"accuracy": accuracy, "cost": cost}
        archive.add(str(number), Architecture.of("s", {"n": number}), Evaluation(metrics=metrics))
    assert archive.best_trade_off(weights).number == nearest


def test_what_is_better_than_the_ideal_is_not_far_from_it() -> None:
    percent = archive_of([(95.0, 100.0), (90.0, 99.0), (50.0, 98.0)])  # although the ideal accuracy is 1
    assert percent.best_trade_off([1.0, 0.0]).number == 0
    negative = archive_of([(0.5, -95.0), (0.4, -50.0)])
    assert negative.best_trade_off([0.0, 1.0]).number == 0


def test_an_archive_without_solutions() -> None:
    archive = archive_of([])
    assert archive.front == []
    assert archive.hypervolume() == 0.0
    assert archive.hypervolume_over_time() == []
    with pytest.raises(ValueError, match="No evaluation met the constraints"):
        archive.best_trade_off()


def test_wrong_input_is_refused() -> None:
    archive = archive_of([(0.5, 1.0)])
    with pytest.raises(ValueError, match="2 finite numbers"):
        archive.best_trade_off([1.0])
    with pytest.raises(ValueError, match=r"must have the metrics \['cost'\]"):
        archive.add("9", Architecture.of("s", {}), Evaluation(metrics={"accuracy": 1.0}))
