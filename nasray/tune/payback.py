"""When the search of each found network has paid for itself, from the rows of a result table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasray.carbon.lifetime import BASELINE_MACS, BreakEven, CostPerUse, break_even

INITIAL = "initial"
BASELINES = (INITIAL, *BASELINE_MACS)
"""What a found network may replace: the network that the search began with, or a well-known one."""


def with_energy(rows: Sequence[Mapping[str, Any]], power_w: float | None) -> list[dict[str, Any]]:
    """Return rows with `energy_mj` of an inference: latency x the power of one worker, unless it was measured.

    Args:
        rows: Of the result table, with `latency_ms`.
        power_w: What one busy worker draws; None if unknown.
    """
    if power_w is None:
        return [dict(row) for row in rows]
    estimate = [{"energy_mj": row["latency_ms"] * power_w, "energy_quality": "estimated"} for row in rows]
    return [{**guess, **row} for guess, row in zip(estimate, rows, strict=True)]


def paybacks(rows: Sequence[Mapping[str, Any]], *, search_j: float | None, baseline: str) -> list[BreakEven]:
    """Return the break-even point of each found network.

    Args:
        rows: Of the result table, with `energy_mj` where it is known.
        search_j: What the whole run has used, in J; None if unknown.
        baseline: One of `BASELINES`. A well-known network is taken to need the initial network's energy per
            multiply-add.

    Raises:
        ValueError: If the baseline is unknown.
    """
    if baseline not in BASELINES:
        raise ValueError(f"`baseline` must be one of {', '.join(BASELINES)}, got {baseline!r}.")
    first = next((row for row in rows if row["label"] == INITIAL and row.get("energy_mj")), None)
    if first is None or search_j is None:
        return []
    replaced = _use(first)
    if baseline != INITIAL:
        replaced = CostPerUse.of_baseline(baseline, first["energy_mj"] / 1e3 / first["macs"])
    return [
        break_even(search_j, _use(row), replaced) for row in rows if row["label"] != INITIAL and row.get("energy_mj")
    ]


def _use(row: Mapping[str, Any]) -> CostPerUse:
    return CostPerUse(
        network=str(row["label"]),
        cost=row["energy_mj"] / 1e3,
        quality="measured" if row["energy_quality"] == "measured" else "estimated",
    )
