"""The file beside an export that says what its exits cost and from which confidence images leave at each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nasray.models.anytime_budget import ExitCosts
from nasray.models.anytime_thresholds import ExitPolicy
from nasray.reading import build, read_json, reason

FILE = "exits.json"
"""Its name. `costs` holds the fields of `ExitCosts`; `policies` those of `ExitPolicy`, by rising mean cost."""


def store_policies(folder: Path, costs: ExitCosts, policies: Sequence[ExitPolicy]) -> None:
    """Write the file; a threshold that no image reaches, which is infinite, stands there as null.

    Args:
        folder: Of the export.
        costs: Of each exit.
        policies: Thresholds, and what they came to on the images that they were calibrated on.
    """
    ordered = sorted(policies, key=lambda policy: policy.mean_macs)
    stored = [asdict(policy) | {"thresholds": thresholds_to_json(policy.thresholds)} for policy in ordered]
    value = {"costs": asdict(costs), "policies": stored}
    (folder / FILE).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_policies(folder: Path) -> tuple[ExitCosts, list[ExitPolicy]]:
    """Read what `store_policies` wrote.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    path = folder / FILE
    try:
        stored = build(_Stored, read_json(path))
        if any(len(policy.thresholds) != len(stored.costs.macs) for policy in stored.policies):
            raise ValueError(f"thresholds that are not one for each of {len(stored.costs.macs)} exits")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must hold costs and thresholds, got: {reason(error)}. Export again.") from error
    return stored.costs, [
        ExitPolicy(thresholds=thresholds_from_json(policy.thresholds), shares=policy.shares, mean_macs=policy.mean_macs)
        for policy in stored.policies
    ]


def thresholds_to_json(thresholds: Sequence[float]) -> list[float | None]:
    """Return thresholds as JSON, which has no infinity: None where no image leaves."""
    return [threshold if math.isfinite(threshold) else None for threshold in thresholds]


def thresholds_from_json(thresholds: Sequence[float | None]) -> tuple[float, ...]:
    """Return what `thresholds_to_json` was given."""
    return tuple(math.inf if threshold is None else threshold for threshold in thresholds)


@dataclass(frozen=True, kw_only=True)
class _StoredPolicy:
    thresholds: tuple[float | None, ...]
    shares: tuple[float, ...]
    mean_macs: float


@dataclass(frozen=True, kw_only=True)
class _Stored:
    costs: ExitCosts
    policies: tuple[_StoredPolicy, ...]
