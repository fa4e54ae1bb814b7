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
