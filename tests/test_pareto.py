import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.pareto import front_indices, hypervolume

# Small integers, so that ties and duplicates are common.
points = st.integers(1, 3).flatmap(
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
