"""Which axes parallel coordinates have: the objectives, and the choices of architecture that matter most.

Legend: N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nasray.report.candidate_data import choices_of, numbered
from nasray.report.candidates import Candidates, Values
from nasray.report.quantities import in_sentence

MOST_AXES = 9
MOST_FRONT, MOST_OTHERS = 150, 250
"""Lines that are drawn, evenly along the front and over the run."""

_MOST_VALUES = 16
"""A choice with more values is no axis unless they are numbers."""


@dataclass(frozen=True, kw_only=True)
class ChoiceAxis:
    """A choice of architecture.

    Args:
        name: Of the choice.
        explained: Share of the variance of the first objective that it explains by itself, 0 to 1.
    """

    name: str
    explained: float


def choice_axes(candidates: Candidates, count: int) -> list[ChoiceAxis]:
    """Return the choices that explain most of the first objective, each by itself (eta squared).

    Choices that are the same for all, or whose values nearly name the networks, explain nothing that helps.
    """
    if not candidates.measured or count < 1:
        return []
    indices = candidates.complete([candidates.measured[0].name])
    quality_N = candidates.metrics[candidates.measured[0].name][indices]
    chosen = [choices_of(candidates.rows[index]) for index in indices]
    axes = []
    for name in dict.fromkeys(name for choices in chosen for name in choices):
        values, groups = numbered([choices.get(name) for choices in chosen])
        if 1 < len(values) <= min(_MOST_VALUES, max(2, len(groups) // 3)):
            axes.append(ChoiceAxis(name=name, explained=explained(quality_N, np.array(groups))))
    return sorted(axes, key=lambda axis: -axis.explained)[:count]


def explained(values_N: Values, groups_N: Any) -> float:
    """Return the share of the variance of the values that lies between groups; 0 where nothing varies."""
    total = float(((values_N - values_N.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    counts = np.bincount(groups_N)
    means = np.bincount(groups_N, weights=values_N) / counts
    return float((counts * (means - values_N.mean()) ** 2).sum() / total)


def parallel_data(candidates: Candidates) -> dict[str, Any] | None:
    """Return the axes and the lines for the page's script; None with fewer than two axes or candidates.

    Returns:
        `metrics` (names), `choices` (names with the share that each explains), `front` and `others` (indices of
        candidates), `on_front` and `off_front` (how many there are of both).
    """
    names = [objective.name for objective in candidates.shared][:MOST_AXES]
    if not names:
        return None
    front = candidates.front(names)
    on_front = set(front)
    others = [int(index) for index in candidates.complete(names) if int(index) not in on_front]
    axes = choice_axes(candidates, MOST_AXES - len(names))
    if len(names) + len(axes) < 2 or len(front) + len(others) < 2:
        return None
    return {
        "metrics": names,
        "choices": [{"name": axis.name, "explained": round(axis.explained, 4)} for axis in axes],
        "front": spread(front, MOST_FRONT),
        "others": spread(others, MOST_OTHERS),
        "on_front": len(front),
        "off_front": len(others),
    }


def parallel_sentence(data: dict[str, Any], quality: str) -> str:
    """Say what the lines and the axes are."""
    front = _some(len(data["front"]), data["on_front"], "networks on the front of these objectives")
    others = _some(len(data["others"]), data["off_front"], "others")
    text = (
        "Each line is a network, each axis a figure (better is up, on a phone to the right) or a choice. "
        f"Drawn thick: {front}; thin and dotted: {others}."
    )
    if data["choices"]:
        text += (
            f" The choices are those that explain most of {in_sentence(quality)}, each by itself; the share "
            "of its variance stands below the name."
        )
    return text


def _some(drawn: int, count: int, what: str) -> str:
    return f"all {count:,} {what}" if drawn == count else f"{drawn:,} of the {count:,} {what}, evenly spread"


def spread(indices: list[int], most: int) -> list[int]:
    """Return up to `most` of the indices, evenly spread, the first and the last among them."""
    if len(indices) <= most:
        return indices
    return [indices[round(step * (len(indices) - 1) / (most - 1))] for step in range(most)]
