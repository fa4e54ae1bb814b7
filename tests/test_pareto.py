import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.pareto import crowding_distances, front_indices, front_ranks, hypervolume

# Small integers, so that ties and duplicates are common.
points = st.integers(1, 5).flatmap(
    lambda num_objectives: st.lists(st.tuples(*[st.integers(0, 6)] * num_objectives), max_size=25)
)


def brute_force_front(rows: list[tuple[int, ...]]) -> list[int]:
    def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    return [i for i, row in enumerate(rows) if row not in rows[:i] and not any(dominates(other, row) for other in rows)]


@settings(deadline=None)
@given(points)
def test_front_indices_equal_brute_force(rows: list[tuple[int, ...]]) -> None:
    assert front_indices(rows) == brute_force_front(rows)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12))
def test_hypervolume_equals_counted_cells(rows: list[tuple[int, int]]) -> None:
    cells = {(x, y) for a, b in rows for x in range(a, 7) for y in range(b, 7)}
    assert hypervolume(rows, [7, 7]) == pytest.approx(len(cells))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 5).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 4)] * m), min_size=1, max_size=6)))
def test_hypervolume_equals_inclusion_and_exclusion(rows: list[tuple[int, ...]]) -> None:
    values = np.array(rows)
    total = 0.0
    for chosen in range(1, 2 ** len(rows)):
        members = values[[bool(chosen >> i & 1) for i in range(len(rows))]]
        total -= (-1) ** len(members) * float(np.prod(np.clip(5 - members.max(axis=0), 0, None)))
    assert hypervolume(rows, [5] * values.shape[1]) == pytest.approx(total)


@pytest.mark.parametrize("num_objectives", [2, 3, 4, 5])
def test_hypervolume_of_a_simplex_front_has_a_closed_form(num_objectives: int) -> None:
    # Grid points with coordinates that sum to 1 leave undominated the cells below: (n+M-1 over M) of n^M.
    steps = {2: 400, 3: 50, 4: 20, 5: 12}[num_objectives]
    grid = np.stack(np.meshgrid(*[np.arange(steps + 1)] * num_objectives), axis=-1).reshape(-1, num_objectives)
    front = grid[grid.sum(axis=1) == steps] / steps
    expected = 1 - math.comb(steps + num_objectives - 1, num_objectives) / steps**num_objectives
    assert hypervolume(front, [1.0] * num_objectives) == pytest.approx(expected)


@settings(deadline=None)
@given(points)
def test_front_ranks_peel_one_front_after_the_other(rows: list[tuple[int, ...]]) -> None:
    ranks = front_ranks(np.array(rows, dtype=float).reshape(len(rows), -1)) if rows else np.empty(0)
    left = list(range(len(rows)))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        front = {rows[left[i]] for i in brute_force_front([rows[i] for i in left])}
        assert {i for i in left if rows[i] in front} == set(np.flatnonzero(ranks == rank).tolist())
        left = [i for i in left if rows[i] not in front]
    assert not left


def test_crowding_distances_are_those_of_the_definition() -> None:
    values = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [5.0, 5.0], [1.0, 2.0]])
    distances = crowding_distances(values, front_ranks(values))
    assert distances[1] == pytest.approx(4 / 4 + 4 / 4)
    assert np.isinf(distances[[0, 2, 3]]).all()
    assert distances[4] == 0, "the copy of a row takes no room"


def test_hypervolume_of_a_box_is_its_volume() -> None:
    assert hypervolume([[0.5, 1.0, 0.0]], [1.0, 2.0, 4.0]) == pytest.approx(0.5 * 1.0 * 4.0)


def test_front_indices_take_many_points() -> None:
    cost = np.linspace(0, 1, 20_000)
    assert len(front_indices(np.stack([cost, -cost], axis=1))) == 20_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_values_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"`values_NM` must be finite, got .* in row 1"):
        front_indices([[0.0, 1.0], [bad, 0.0]])
    with pytest.raises(ValueError, match="`values_NM` must be finite"):
        hypervolume([[bad, 0.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match="`reference_point_M` must be finite"):
        hypervolume([[0.0, 0.0]], [bad, 1.0])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="two-dimensional"):
        front_indices([1.0, 2.0])
    with pytest.raises(ValueError, match="one value per objective"):
        hypervolume([[1.0, 2.0]], [3.0, 3.0, 3.0])
