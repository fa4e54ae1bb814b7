"""Axes and lines of parallel coordinates."""

import numpy as np
import pytest

from nasray.objectives import Objective
from nasray.report.candidates import Candidates
from nasray.report.parallel import choice_axes, explained, parallel_data, spread

OBJECTIVES = (Objective(name="accuracy", direction="maximize"), Objective(name="macs"))


def candidates_of(rows):
    rows = [
        {
            "arch_id": str(n),
            "status": "ok",
            "metrics": {"accuracy": accuracy, "macs": float(n)},
            "architecture": {"space": "s", "choices": choices},
        }
        for n, (accuracy, choices) in enumerate(rows)
    ]
    return Candidates(rows=rows, objectives=OBJECTIVES)


def test_explained_is_the_share_between_groups():
    values = np.array([1.0, 1.0, 3.0, 3.0])
    assert explained(values, np.array([0, 0, 1, 1])) == 1.0
    assert explained(values, np.array([0, 1, 0, 1])) == 0.0
    # Means 1 and 3 with 2 within: between 4 x 1, in all 4 x 1 + 4 x 1.
    assert explained(np.array([0.0, 2.0, 2.0, 4.0]), np.array([0, 0, 1, 1])) == pytest.approx(0.5)
    assert explained(np.ones(4), np.array([0, 0, 1, 1])) == 0.0


def test_choices_that_matter_come_first_and_those_that_do_not_tell_are_left_out():
    rows = [(0.9 if n % 2 else 0.1, {"kind": n % 2, "noise": n % 3, "same": 1, "name": f"n{n}"}) for n in range(30)]
    axes = choice_axes(candidates_of(rows), 5)
    assert [axis.name for axis in axes] == ["kind", "noise"]
    assert axes[0].explained == pytest.approx(1.0)


def test_lines_are_the_front_and_some_others():
    rows = [(n / 1000 if n < 300 else 0.0, {"kind": n % 2}) for n in range(1000)]
    data = parallel_data(candidates_of(rows))
    assert data["on_front"] == 300 and data["off_front"] == 700
    assert len(data["front"]) == 150 and len(data["others"]) == 250
    assert {0, 299} <= set(data["front"]) and max(data["others"]) == 999
    assert data["metrics"] == ["accuracy", "macs"]


def test_nothing_to_draw_without_candidates():
    assert parallel_data(candidates_of([])) is None
    assert parallel_data(candidates_of([(0.5, {})])) is None


def test_spread_keeps_the_ends():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]
