"""What came of one candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one candidate, good or bad.

    Args:
        status: `ok`; `failed` when something went wrong that a search survives (out of memory, divergence);
            `infeasible` when a constraint is broken.
        metrics: Figures by name, unit in the name; accuracies as fractions.
        reason: Why it is not `ok`.
        seconds: How long the evaluation took.

    Raises:
        ValueError: If an `ok` evaluation has a metric that is not finite, or another one has no reason.
    """

    status: Status = "ok"
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        bad = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if self.status == "ok" and bad:
            raise ValueError(f"`metrics` of an ok evaluation must be finite, got {bad}. Report it as failed.")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"`reason` must say why the evaluation is {self.status}, got none.")

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float], seconds: float) -> Evaluation:
        """Return an `ok` evaluation, or a failed one if a metric is not finite."""
        bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        if bad:
            return cls(status="failed", reason=f"{', '.join(bad)} not finite", seconds=seconds)
        return cls(metrics=dict(metrics), seconds=seconds)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON."""
        return {
            "status": self.status,
            "metrics": dict(self.metrics),
            "reason": self.reason,
            "seconds": self.seconds,
        }
