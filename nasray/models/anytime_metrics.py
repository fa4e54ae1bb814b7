"""How good a network with early exits is over all budgets: plain functions of its exits' costs and accuracies.

All of them take the network as a device under a budget uses it: it answers with the last exit that the budget
allows. Where even exit 1 is too dear there is no answer, which counts as `unanswered`: for accuracy 0, or that of
guessing; for a loss, that of guessing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


def value_at_budget(macs: Sequence[float], values: Sequence[float], budget: float, *, unanswered: float = 0.0) -> float:
    """Return the value (such as accuracy) of the last exit that costs at most the budget.

    Args:
        macs: Cost of each exit, ascending.
        values: Of each exit.
        budget: In the unit of `macs`.
        unanswered: What counts where no exit fits.

    Raises:
        ValueError: If the costs do not ascend or the lengths differ.
    """
    _check_curve(macs, values)
    exit = bisect_right(macs, budget)
    return values[exit - 1] if exit else unanswered


def anytime_curve(
    macs: Sequence[float], values: Sequence[float], budgets: Sequence[float], *, unanswered: float = 0.0
) -> list[float]:
    """Return the value at each of several budgets; see `value_at_budget`."""
    return [value_at_budget(macs, values, budget, unanswered=unanswered) for budget in budgets]


def expected_value(
    macs: Sequence[float],
    values: Sequence[float],
    budgets: Sequence[float],
    probabilities: Sequence[float],
    *,
    unanswered: float = 0.0,
) -> float:
    """Return the expected accuracy, or loss, under a distribution of budgets.

    Args:
        macs: Cost of each exit, ascending.
        values: Accuracy or loss of each exit over all images.
        budgets: That may come, in the unit of `macs`.
        probabilities: Of the budgets; they sum to 1.
        unanswered: What counts where no exit fits.

    Raises:
        ValueError: If the probabilities are no distribution over the budgets, or the costs do not ascend.

    Source: Cioflan and Timofte 2020 (MS-RANAS), eq. 4. Deviation: budget and image are taken to be independent, so
    that the mean over images can be taken first.
    """
    is_distribution = all(p >= 0 for p in probabilities) and math.isclose(sum(probabilities), 1.0, abs_tol=1e-6)
    if len(budgets) != len(probabilities) or not is_distribution:
        raise ValueError(
            f"`probabilities` must be non-negative, sum to 1 and be one for each of {len(budgets)} budgets, got "
            f"{list(probabilities)}."
        )
    curve = anytime_curve(macs, values, budgets, unanswered=unanswered)
    return sum(value * probability for value, probability in zip(curve, probabilities, strict=True))


def area_under_curve(
    macs: Sequence[float],
    values: Sequence[float],
    *,
    max_macs: float,
    min_macs: float = 0.0,
    unanswered: float = 0.0,
) -> float:
    """Return the mean of the value over all budgets in a range, each as likely: the normalised area under its curve.

    Networks can be compared only over the same range. The curve is a staircase: between two exits nothing better is
    at hand than the cheaper of them.

    Args:
        macs: Cost of each exit, ascending.
        values: Accuracy of each exit.
        max_macs: Upper end of the range.
        min_macs: Lower end of the range.
        unanswered: What counts below the cost of exit 1.

    Raises:
        ValueError: If the range is empty or the costs do not ascend.

    Source: Cioflan and Timofte 2020 (MS-RANAS), Sec. 5 ("the area under accuracy-MFLOPS curve as a selection
    criteria"). Deviation: the paper gives no formula; the area is divided by the range.
    """
    _check_curve(macs, values)
    if not 0 <= min_macs < max_macs < math.inf:
        raise ValueError(f"`min_macs` must be at least 0 and below `max_macs`, got {min_macs} and {max_macs}.")
    corners = [min_macs, *(cost for cost in macs if min_macs < cost < max_macs), max_macs]
    steps = pairwise(corners)
    area = sum((end - start) * value_at_budget(macs, values, start, unanswered=unanswered) for start, end in steps)
    return area / (max_macs - min_macs)


def _check_curve(macs: Sequence[float], values: Sequence[float]) -> None:
    if len(macs) != len(values) or not macs:
        raise ValueError(f"`values` must have one value for each of {len(macs)} exits, got {len(values)}.")
    if any(later <= earlier for earlier, later in pairwise(macs)):
        raise ValueError(f"`macs` must ascend from exit to exit, got {list(macs)}.")
