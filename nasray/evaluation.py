"""What came of one candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsFloat

Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one candidate, good or bad.

    Args:
        status: `ok`; `failed` when something went wrong that a search survives (divergence, a bug, too much time);
            `infeasible` when the candidate cannot be had: a constraint is broken, or it does not fit into memory.
        metrics: Figures by name, unit in the name; accuracies as fractions. Kept as floats; of an evaluation that is
            not ok, those that are finite numbers.
        reason: Why it is not `ok`.
        seconds: How long the evaluation took.

    Raises:
        ValueError: If an `ok` evaluation has a metric that is no finite number, or another one has no reason.
    """

    status: Status = "ok"
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        numbers = {name: metric_number(value) for name, value in self.metrics.items()}
        bad = [name for name, number in numbers.items() if not math.isfinite(number)]
        if self.status == "ok" and bad:
            told = {name: self.metrics[name] for name in bad}
            raise ValueError(f"`metrics` of an ok evaluation must be finite numbers, got {told}. Report it as failed.")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"`reason` must say why the evaluation is {self.status}, got none.")
        object.__setattr__(self, "metrics", {name: value for name, value in numbers.items() if math.isfinite(value)})

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any], seconds: float) -> Evaluation:
        """Return an `ok` evaluation, or a failed one if a metric is no finite number."""
        faults = [fault for name, value in metrics.items() if (fault := metric_fault(name, value))]
        if faults:
            return cls(status="failed", reason="; ".join(faults), metrics=metrics, seconds=seconds)
        return cls(metrics=metrics, seconds=seconds)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON."""
        return {
            "status": self.status,
            "metrics": dict(self.metrics),
            "reason": self.reason,
            "seconds": self.seconds,
        }


def metric_number(value: object) -> float:
    """Return a metric as a float: of a number, or of an array or tensor with one element; NaN for anything else.

    Text and truth values are no numbers here: who reports them means something else.
    """
    scalar = _scalar(value)
    if isinstance(scalar, (bool, str, bytes, bytearray, complex)) or not isinstance(scalar, SupportsFloat):
        return math.nan
    try:
        return float(scalar)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def metric_fault(name: str, value: object) -> str | None:
    """Return what is wrong with a metric, as "accuracy is nan"; None if it is a finite number."""
    number, scalar = metric_number(value), _scalar(value)
    if math.isfinite(number):
        return None
    if isinstance(scalar, float) or not math.isnan(number):
        return f"{name} is {number}"
    shown = " ".join(repr(scalar).split())
    return f"{name} is {shown if len(shown) <= 40 else shown[:37] + '...'}, not a number"


def _scalar(value: object) -> object:
    """Return the element of an array or tensor that has one, else the value itself."""
    item = getattr(value, "item", None)
    if item is None:
        return value
    try:
        return item()
    except (TypeError, ValueError, RuntimeError):
        return value
