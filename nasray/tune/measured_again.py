"""After a search: the networks on the front are measured again, with nothing else running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nasray.architecture import Architecture
from nasray.hardware.front_check import FILE, CostCheck, measure_front
from nasray.records import RunDirectory
from nasray.tune.progress import StageProgress

_MOST = 20


@dataclass(frozen=True, kw_only=True)
class Remeasure:
    """How a cost that a search went by is measured once more.

    Args:
        metric: Its name in the record.
        unit: Its unit.
        device: Where and how it is measured.
        measure: Measures one network.
    """

    metric: str
    unit: str
    device: str
    measure: Callable[[Architecture], float]


def check_front(run: RunDirectory, again: Remeasure, progress: StageProgress) -> CostCheck | None:
    """Measure up to 20 networks, evenly spaced on the front against a cost, and keep what came out in the run.

    Args:
        run: The run, with its `front.json`.
        again: What to measure.
        progress: What to show meanwhile.

    Returns:
        Predicted against measured; None if no network on the front has the cost.
    """
    points = [
        point
        for point in (run.read_json("front.json") or {}).get("points", [])
        if again.metric in point["costs"] and point["metrics"][again.metric] > 0
    ]
    if not points:
        return None
    points.sort(key=lambda point: point["metrics"][again.metric])
    points = [points[index] for index in sorted({round(i) for i in np.linspace(0, len(points) - 1, _MOST)})]
    architectures = {row["sample_id"]: row["architecture"] for row in run.evaluations()}
    with progress.shown():
        bar = progress.bar("measure again", 1.0)
        check = measure_front(
            [Architecture.from_json(architectures[point["sample_id"]]) for point in points],
            [point["metrics"][again.metric] for point in points],
            again.measure,
            metric=again.metric,
            unit=again.unit,
            device=again.device,
            generator=np.random.default_rng(0),
            progress=lambda done, total: bar.move(done / total, f"{done} of {total} timings"),
        )
    run.write_json(FILE, check.to_json())
    return check
