"""Pareto fronts and hypervolume, minimised throughout, over pymoo.

Legend: N points, M objectives.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def front_indices(values_NM: ArrayLike) -> list[int]:
    """Find the rows that no other row dominates.

    A row dominates another when it is no worse in every objective and better in one. Of rows that are equal in
    every objective only the first is kept, so that a front does not grow with repeated candidates.

    Args:
        values_NM: (N, M) objective values, each to be minimised (negate what is to be maximised).

    Returns:
        Indices of the non-dominated rows, ascending; empty for no rows.

    Raises:
        ValueError: If `values_NM` is not a finite (N, M) array with M >= 1.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    values_NM = _finite_rows(values_NM)
    if len(values_NM) == 0:
        return []
    unique_UM, first_U = np.unique(values_NM, axis=0, return_index=True)
    front_F = NonDominatedSorting().do(unique_UM, only_non_dominated_front=True)
    return sorted(int(first_U[index]) for index in front_F)


def hypervolume(values_NM: ArrayLike, reference_point_M: ArrayLike) -> float:
    """Measure the volume that the rows dominate, up to the reference point.

    Rows that are not better than the reference point in every objective add nothing.

    Args:
        values_NM: (N, M) objective values, each to be minimised.
        reference_point_M: (M,) a point worse than every value of interest.

    Returns:
        The volume, in the product of the objectives' units; 0.0 for no rows.

    Raises:
        ValueError: If an argument is not finite or the numbers of objectives differ.
    """
    from pymoo.indicators.hv import HV

    values_NM = _finite_rows(values_NM)
    reference_M = np.asarray(reference_point_M, dtype=float)
    if not np.isfinite(reference_M).all():
        raise ValueError(f"`reference_point_M` must be finite, got {reference_M.tolist()}. Choose a finite worst case.")
    if reference_M.ndim != 1 or (len(values_NM) and reference_M.shape[0] != values_NM.shape[1]):
        raise ValueError(
            f"`reference_point_M` must hold one value per objective, got shape {reference_M.shape} for values of "
            f"shape {values_NM.shape}. Give both the same objectives."
        )
    better_NM = values_NM[(values_NM < reference_M).all(axis=1)] if len(values_NM) else values_NM
    return float(HV(ref_point=reference_M)(better_NM)) if len(better_NM) else 0.0


def _finite_rows(values_NM: ArrayLike) -> NDArray[np.float64]:
    """Return the values as a float array, or raise if they are not finite rows."""
    array = np.asarray(values_NM, dtype=float)
    if array.size == 0 and array.ndim <= 2:
        return array.reshape(0, array.shape[1] if array.ndim == 2 else 0)
    if array.ndim != 2:
        raise ValueError(
            f"`values_NM` must be two-dimensional (points, objectives), got shape {array.shape}. Reshape it."
        )
    bad_N = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad_N.size:
        row = int(bad_N[0])
        raise ValueError(
            f"`values_NM` must be finite, got {array[row].tolist()} in row {row}. Leave failed evaluations out."
        )
    return array


def front_ranks(values_NM: ArrayLike) -> NDArray[np.intp]:
    """Number the fronts: 0 for rows that no other dominates, 1 for those that only rows of rank 0 dominate, ...

    Rows that are equal in every objective share a rank.

    Args:
        values_NM: (N, M) objective values, each to be minimised.

    Returns:
        (N,) ranks.

    Raises:
        ValueError: If `values_NM` is not a finite (N, M) array.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    values_NM = _finite_rows(values_NM)
    if len(values_NM) == 0:
        return np.empty(0, dtype=np.intp)
    _, ranks_N = NonDominatedSorting().do(values_NM, return_rank=True)
    return np.asarray(ranks_N, dtype=np.intp)


def crowding_distances(values_NM: NDArray[np.float64], ranks_N: NDArray[np.intp]) -> NDArray[np.float64]:
    """Measure how far the neighbours of each row on its own front are apart, over the front's extent.

    The extremes of a front are infinitely far from others; a second row with the same values has distance 0.

    Args:
        values_NM: (N, M) objective values.
        ranks_N: (N,) front of each row, as `front_ranks` gives it.

    Returns:
        (N,) distances.

    Source: Deb et al. 2002 (NSGA-II), Sec. III-B. Deviation: copies of a row have distance 0, so that a
    population does not fill with them.
    """
    rows_UK, first_U = np.unique(np.column_stack([ranks_N, values_NM]), axis=0, return_index=True)
    ranks_U, distances_U = rows_UK[:, 0], np.zeros(len(rows_UK))
    for values_U in rows_UK[:, 1:].T:
        order_U = np.lexsort((values_U, ranks_U))
        distances_U[order_U] += _gaps(values_U[order_U], ranks_U[order_U])
    distances_N = np.zeros(len(values_NM))
    distances_N[first_U] = distances_U
    return distances_N


def _gaps(values_U: NDArray[np.float64], ranks_U: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gap around each value among those of its rank, over the rank's extent; both sorted by rank, value."""
    is_first_U = np.append(True, ranks_U[1:] != ranks_U[:-1])
    starts_R = np.flatnonzero(is_first_U)
    ends_R = np.append(starts_R[1:], len(values_U)) - 1
    extent_R = values_U[ends_R] - values_U[starts_R]
    gaps_U = np.full(len(values_U), np.inf)
    gaps_U[1:-1] = values_U[2:] - values_U[:-2]
    gaps_U /= np.where(extent_R > 0, extent_R, 1.0)[np.cumsum(is_first_U) - 1]
    gaps_U[starts_R] = gaps_U[ends_R] = np.inf
    return gaps_U
