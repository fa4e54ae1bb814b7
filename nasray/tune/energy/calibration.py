"""A short calibration before a search: how long its work takes here, and how much power that draws."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import torch

from nasray.carbon.bill import Bill, StageEstimate
from nasray.carbon.lease import Lease, LeaseEnergy
from nasray.carbon.node_meter import NodeMeter
from nasray.data import ImageData, Split
from nasray.training.jobs import Place, TrainingJob
from nasray.training.shared import SharedJob
from nasray.tune.energy.settings import EnergySettings

_IMAGES, _MAX_BATCH = 512, 128
_SECONDS = 4.0
_RAY_S, _TUNER_S, _REPORT_S = 8.0, 6.0, 1.0
"""What starting Ray with its meters takes, the first trials of a Tuner, and the report, in seconds."""
REPORT = "report"
_ROW_BYTES, _REPORT_BYTES = 1500, 5_000_000
_WEIGHT_BYTES, _CHECKPOINT_BYTES = 4.3, 3 * 16
"""On disk for each parameter of a training: its weights; and three checkpoints of weights, average and momentum."""
_EXPORT_BYTES, _EXPORTED_BYTES = 250_000, 9.2
"""Of an exported network beside its weights, as torch.export and ONNX: of each, and for each parameter."""

T = TypeVar("T")


class Calibration:
    """Does some of a search's work in this process, as one worker would. Use it as a context.

    Args:
        device: Where workers compute.
        cpus: Processors of a worker.
    """

    def __init__(self, *, device: str = "cpu", cpus: float = 1.0) -> None:
        self.place = Place(device=device)
        self._cpus, self._threads = cpus, torch.get_num_threads()

    def __enter__(self) -> Self:
        self._meter = NodeMeter.of_this_machine(node="calibration")
        gpus = {f"GPU-{torch.cuda.get_device_properties(0).uuid}": 1.0} if self.place.device == "cuda" else {}
        self._lease = self._meter.open(
            Lease.of_this_process(owner="calibration", stage="calibration", cpus=self._cpus, gpus=gpus)
        )
        torch.set_num_threads(max(1, int(self._cpus)))
        return self

    def __exit__(self, *error: object) -> None:
        self.energy: LeaseEnergy = self._meter.close(self._lease)
        torch.set_num_threads(self._threads)

    def seconds_each(self, work: Callable[[T], object], items: Iterable[T]) -> float:
        """Return the mean time of work on as many items as fit into some seconds, at least two after a warm-up."""
        seconds: list[float] = []
        waiting: Iterator[T] = iter(items)
        work(next(waiting))
        for item in waiting:
            start = time.perf_counter()
            work(item)
            seconds.append(time.perf_counter() - start)
            if len(seconds) >= 2 and sum(seconds) >= _SECONDS:
                break
        return float(np.mean(seconds))

    def training_s(self, job: TrainingJob | SharedJob, data: ImageData) -> float:
        """Return how long one worker would train a job, from short epochs on few images after a warm-up."""
        few = few_images(data)
        short = replace(job.training, batch_size=min(job.training.batch_size, _MAX_BATCH))
        running = replace(job, training=short).start(few, self.place)
        each_s = self.seconds_each(lambda _: running.run_epoch(), itertools.count())
        return each_s * len(data.train) / len(few.train) * job.training.epochs

    @property
    def power_w(self) -> float | None:
        """What one worker drew, once the calibration is over; None if unknown."""
        energy_j = self.energy.energy_j
        return None if energy_j is None else energy_j / self.energy.duration_s

    def stage(
        self,
        name: str,
        worker_s: float,
        *,
        num_workers: int = 1,
        evaluations: int = 0,
        bytes_each: int = _ROW_BYTES,
        parameters: int = 0,
        trained_at_once: float = 1.0,
        exports: int = 0,
        exported_parameters: int = 0,
    ) -> StageEstimate:
        """Return the estimate of a stage, once the calibration is over.

        Args:
            name: The stage.
            worker_s: Seconds of work of all workers together.
            num_workers: How many share it.
            evaluations: Candidates that it evaluates.
            bytes_each: What a candidate leaves on disk: its records and logs.
            parameters: Of the networks that are trained and whose weights are kept, all together.
            trained_at_once: Share of them that is being trained at any time, and so has checkpoints.
            exports: Networks that it exports.
            exported_parameters: Theirs, all together.
        """
        exported = exports * _EXPORT_BYTES + exported_parameters * _EXPORTED_BYTES
        return StageEstimate(
            name=name,
            evaluations=evaluations,
            hours=worker_s / num_workers / 3600,
            energy_j=None if self.power_w is None else self.power_w * worker_s,
            disk_bytes=round(evaluations * bytes_each + parameters * _WEIGHT_BYTES + exported),
            checkpoint_bytes=round(parameters * min(1.0, trained_at_once) * _CHECKPOINT_BYTES),
        )

    def _start_up(self, num_stages: int) -> StageEstimate:
        return self.stage("start-up", _RAY_S + _TUNER_S * num_stages)

    def bill(self, stages: Sequence[StageEstimate], energy: EnergySettings, *, is_on_ray: bool = True) -> Bill:
        """Return the bill, once the calibration is over.

        With the start of Ray and its Tuners where they are used, and with the report.
        """
        report = replace(self.stage(REPORT, _REPORT_S), disk_bytes=_REPORT_BYTES)
        return Bill(
            stages=(*([self._start_up(len(stages))] if is_on_ray else []), *stages, report),
            intensity=energy.intensity,
            pue=energy.pue,
            power_w=self.power_w,
            quality=self.energy.quality,
            calibration=f"from {self.energy.duration_s:.0f} s of calibration on this machine",
        )


def few_images(data: ImageData) -> ImageData:
    """Return a data set with some of the training images."""
    return replace(data, train=_some(data.train))


def _some(split: Split) -> Any:
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split.subset(rows[:_IMAGES])
