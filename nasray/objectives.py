"""What a search wants: objectives with units and directions, and constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]

_CONSTRAINT = re.compile(r"\s*([A-Za-z_][\w.\- ]*?)\s*(<=|>=)\s*([^<>=\s]+)\s*")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric to make as small or as large as can be.

    Args:
        name: Name of the metric in `Evaluation.metrics`, unit as suffix.
        direction: Which way is better.
        unit: For people; "" for a share.
        ideal: The best value that can be thought of: 0 for what is minimised unless another is given. What is
            maximised has none unless it is given (1 for an accuracy).

    Raises:
        ValueError: If the name is empty, the direction unknown or the ideal not finite.
    """

    name: str
    direction: Direction = "minimize"
    unit: str = ""
    ideal: float | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("`name` of an objective must not be empty. Name a metric.")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"`direction` must be minimize or maximize, got {self.direction!r}.")
        if self.ideal is not None and not math.isfinite(self.ideal):
            raise ValueError(f"`ideal` of {self.name!r} must be finite, got {self.ideal}. Leave it out.")

    @property
    def sign(self) -> float:
        """Factor that turns the metric into a value to minimise: 1 or -1."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def best_value(self) -> float | None:
        """The ideal as a value to minimise; None where there is none."""
        if self.ideal is None:
            return 0.0 if self.direction == "minimize" else None
        return self.sign * self.ideal

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON."""
        return {"name": self.name, "direction": self.direction, "unit": self.unit, "ideal": self.ideal}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A limit on a metric, whether computed before training or measured after it.

    Args:
        metric: Name of the metric.
        limit: The largest (`<=`) or smallest (`>=`) value allowed.
        relation: Which of the two.

    Raises:
        ValueError: If the limit is not finite or the relation unknown.
    """

    metric: str
    limit: float
    relation: Literal["<=", ">="] = "<="

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit):
            raise ValueError(f"`limit` of {self.metric!r} must be finite, got {self.limit}.")
        if self.relation not in ("<=", ">="):
            raise ValueError(f"`relation` must be <= or >=, got {self.relation!r}.")

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read `latency_ms<=5` or `accuracy>=0.9`.

        Raises:
            ValueError: If the text is anything else.
        """
        match = _CONSTRAINT.fullmatch(text)
        try:
            limit = float(match[3]) if match else math.nan
        except ValueError:
            limit = math.nan
        if match is None or not math.isfinite(limit):
            raise ValueError(f"A constraint must read like latency_ms<=5 or accuracy>=0.9, got {text!r}.")
        return cls(metric=match[1], limit=limit, relation="<=" if match[2] == "<=" else ">=")

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by what share of its size the limit is broken (by how much, for a limit of 0); 0 where it is met."""
        excess = metrics[self.metric] - self.limit
        excess = excess if self.relation == "<=" else -excess
        return max(0.0, excess) / (abs(self.limit) or 1.0)

    def __str__(self) -> str:
        short = f"{self.limit:g}"
        return f"{self.metric}{self.relation}{short if float(short) == self.limit else repr(self.limit)}"
