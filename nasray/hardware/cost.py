"""What a hardware cost is: one figure for one architecture, with its unit and where it comes from."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal

from nasray.architecture import Architecture

Quality = Literal["exact", "measured", "predicted"]


@dataclass(frozen=True, kw_only=True)
class CostValue:
    """A cost figure that can be trusted as far as it says.

    Args:
        value: The figure, in `unit`.
        unit: Such as "ms" or "bytes".
        source: How it was found: the counter, the device, the table.
        quality: `exact` follows from the architecture alone, `measured` was timed on the device, `predicted` was
            estimated.
        spread: Uncertainty in `unit`: the interquartile range of repeats, or half the interval of a prediction; `None`
            where there is none to tell.

    Raises:
        ValueError: If the value is negative, infinite or not a number.
    """

    value: float
    unit: str
    source: str
    quality: Quality
    spread: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:
            raise ValueError(
                f"`value` must be finite and not negative, got {self.value} {self.unit}. Leave a missing cost out."
            )


class Cost(abc.ABC):
    """One metric of an architecture that needs no training. Picklable, so that it can go to Ray actors.

    `name` is what the cost is called in `COSTS`; `unit` is the unit of every value that it returns.
    """

    name: str
    unit: str

    @abc.abstractmethod
    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the cost of an architecture.

        Raises:
            ValueError: If the architecture is of another space, or the cost cannot be told.
        """
