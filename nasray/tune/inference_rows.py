"""Energy per inference of the networks in a table of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasray.architecture import Architecture
from nasray.hardware.inference_energy import InferenceEnergy
from nasray.tune.progress import StageProgress


def with_inference_energy(
    rows: Sequence[Mapping[str, Any]],
    architectures: Mapping[str, Architecture],
    measure: Callable[[Architecture], InferenceEnergy],
    progress: StageProgress,
) -> list[dict[str, Any]]:
    """Measure each network of a table once, and return its rows with `energy_mj`, gross, among the metrics.

    Args:
        rows: Of `trade_off_rows`; the first is what the others are compared with.
        architectures: By id.
        measure: Measures one network.
        progress: What to show meanwhile.

    Returns:
        The rows, each with the whole measurement as `inference_energy` too.
    """
    ids = list(dict.fromkeys(row["arch_id"] for row in rows))
    found: dict[str, InferenceEnergy] = {}
    with progress.shown():
        bar = progress.bar("energy", len(ids))
        for number, arch_id in enumerate(ids, start=1):
            found[arch_id] = measure(architectures[arch_id])
            bar.move(number, f"{found[arch_id].quality}")
    first = found[rows[0]["arch_id"]].gross_mj if rows else None
    return [_row(row, found[row["arch_id"]], first) for row in rows]


def _row(row: Mapping[str, Any], energy: InferenceEnergy, first_mj: float | None) -> dict[str, Any]:
    metrics, saves = dict(row["metrics"]), dict(row["saves"])
    if energy.gross_mj is not None:
        metrics["energy_mj"] = energy.gross_mj
        if first_mj is not None:
            saves["energy_mj"] = first_mj / energy.gross_mj
    return {**row, "metrics": metrics, "saves": saves, "inference_energy": energy.to_json()}
