"""Energy per inference: long windows of nothing but forward passes, on the counters of the device."""

from __future__ import annotations

import contextlib
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from nasray.carbon.lease import Lease, Quality
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.sensors import CPU, GPU_PREFIX, find_sensors
from nasray.hardware.device import DeviceFingerprint, check_device
from nasray.hardware.timing import torch_threads

SHORTEST_WINDOW_S = 10.0
"""Counters of GPUs move about every 0.1 s, so that a window of 10 s ends within 1 %."""

_SHARED_ABOVE = 0.02


@dataclass(frozen=True, kw_only=True)
class InferenceEnergy:
    """Energy that a network takes for one image, over several windows.

    Args:
        gross_mj: Median of all that the device took, in mJ an image; None if unknown.
        above_idle_mj: Median of what it took beyond its power at rest, in mJ an image; None if either is unknown.
        spread: Largest less smallest window over the median, of the gross energy.
        power_w: Mean power of the device in the windows.
        images_per_s: Images that it computed a second.
        quality: `measured` on a device counter with nobody else on the device, `attributed` on one with others,
            `estimated` by a model, `unavailable`.
        is_shared: Whether others worked on the device meanwhile, so that the figures are too high.
        source: Counter or model.
        device: What computed.
        batch_size: Images at a time.
        window_s: Length of each window.
        num_windows: How many.
    """

    gross_mj: float | None
    above_idle_mj: float | None
    spread: float | None
    power_w: float | None
    images_per_s: float
    quality: Quality
    is_shared: bool
    source: str
    device: str
    batch_size: int
    window_s: float
    num_windows: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Window:
    runs: int
    seconds: float
    device_j: float | None
    idle_j: float | None
    other_share: float


def measure_inference_energy(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    device: str = "cpu",
    window_s: float = SHORTEST_WINDOW_S,
    num_windows: int = 3,
    warmup_s: float = 2.0,
    threads: int = 1,
    meter: NodeMeter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> InferenceEnergy:
    """Measure the energy of a module's forward pass in eval mode. The module is copied and left alone.

    Nothing else should run on the device meanwhile; whether something did is told, where the system tells it.

    Args:
        module: Any module of one input.
        input_shape: Shape of the input, batch first.
        device: "cpu", "cuda" or "cuda:<index>".
        window_s: Length of a window in seconds, at least 10.
        num_windows: Windows, of which the median counts.
        warmup_s: Seconds to run before the first window.
        threads: Threads of torch while measuring on a CPU.
        meter: Of this node, calibrated; by default a new one, which is calibrated first (about 3 s without work).
        clock: Seconds that only go forward; the meter's own where one is given.

    Raises:
        ValueError: If the device cannot be used, or windows are too short or too few.

    Source: Young et al. 2019 (MENNDL), Sec. III-A (energy of inference by NVML over the validation set). Deviation:
    windows of a fixed time instead of one pass, and the power at rest apart.
    """
    if window_s < SHORTEST_WINDOW_S or num_windows < 1:
        raise ValueError(
            f"`window_s` must be at least {SHORTEST_WINDOW_S:g} and `num_windows` at least 1, got {window_s} and "
            f"{num_windows}. Counters are too coarse for less."
        )
    place = check_device(device)
    meter = meter or _calibrated_meter()
    copied = copy.deepcopy(module).to(place).eval()
    x = torch.randn(tuple(input_shape), generator=torch.Generator().manual_seed(0)).to(place)
    domain, gpus = _domain(place)
    with torch_threads(threads), torch.inference_mode():
        run = _Runner(lambda: copied(x), place, clock)
        run.for_(warmup_s)
        lease = meter.open(Lease.of_this_process(owner="inference", stage="inference", cpus=float(threads), gpus=gpus))
        try:
            windows = [_window(run, meter, domain, window_s) for _ in range(num_windows)]
        finally:
            energy = meter.close(lease)
    found = energy.domains.get(domain)
    return _summary(
        windows,
        quality=found.quality if found else "unavailable",
        source=found.source if found else f"no sensor for {domain}",
        device=DeviceFingerprint.of(device, threads=threads).describe(),
        batch_size=input_shape[0],
        window_s=window_s,
    )


@contextlib.contextmanager
def energy_windows(
    device: str = "cpu", *, meter: NodeMeter | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Callable[[], object], float], float | None]]:
    """Give a function that repeats a computation for some seconds and returns what one run of it took.

    It returns the gross energy in J, or None if the device's energy is unknown. A window too short for one run lasts
    for one run. Others on the device are not told apart.

    Args:
        device: What computes.
        meter: As for `measure_inference_energy`.
        clock: Likewise.
    """
    place = check_device(device)
    meter, domain = meter or _calibrated_meter(), _domain(place)[0]

    def window_j(run: Callable[[], object], seconds: float) -> float | None:
        runner = _Runner(run, place, clock)
        runner.for_(seconds / 10)
        window = _window(runner, meter, domain, seconds)
        return None if window.device_j is None else window.device_j / window.runs

    yield window_j


def has_counter(device: str = "cpu") -> bool:
    """Return whether a device has an energy counter that can be read, so that energies are more than a model."""
    domain, _ = _domain(check_device(device))
    return any(sensor.domain == domain and sensor.kind == "counter" for sensor in find_sensors().sensors)


class _Runner:
    """Repeats a computation for a time and counts."""

    def __init__(self, run: Callable[[], object], place: torch.device, clock: Callable[[], float]) -> None:
        self._run, self._place, self._clock = run, place, clock

    def for_(self, seconds: float) -> int:
        """Return how often it ran in a time; waits for the device at the end."""
        end, runs = self._clock() + seconds, 0
        while self._clock() < end:
            self._run()
            runs += 1
            # A GPU takes orders faster than it computes; let the queue not grow beyond some runs.
            if self._place.type == "cuda" and runs % 16 == 0:
                torch.cuda.synchronize(self._place)
        if self._place.type == "cuda":
            torch.cuda.synchronize(self._place)
        return runs


def _window(run: _Runner, meter: NodeMeter, domain: str, seconds: float) -> _Window:
    before = meter.snapshot()
    runs = run.for_(seconds)
    after = meter.snapshot()
    took = after["duration_s"] - before["duration_s"]
    known = after["domains"].get(domain, {})
    if known.get("node_j") is None:
        return _Window(runs=runs, seconds=took, device_j=None, idle_j=None, other_share=0.0)
    first = before["domains"][domain]
    device_j, other_j = (known[part] - first[part] for part in ("node_j", "other_j"))
    power_w = known["idle_power_w"]
    return _Window(
        runs=runs,
        seconds=took,
        device_j=device_j,
        idle_j=None if power_w is None else power_w * took,
        other_share=other_j / device_j if device_j else 0.0,
    )


def _summary(
    windows: Sequence[_Window], *, quality: Quality, source: str, device: str, batch_size: int, window_s: float
) -> InferenceEnergy:
    gross = [1e3 * w.device_j / (w.runs * batch_size) for w in windows if w.device_j is not None]
    above = [
        1e3 * max(0.0, w.device_j - w.idle_j) / (w.runs * batch_size)
        for w in windows
        if w.device_j is not None and w.idle_j is not None
    ]
    is_known = len(gross) == len(windows) and statistics.median(gross) > 0
    seconds = math.fsum(window.seconds for window in windows)
    return InferenceEnergy(
        gross_mj=statistics.median(gross) if is_known else None,
        above_idle_mj=statistics.median(above) if is_known and len(above) == len(windows) else None,
        spread=(max(gross) - min(gross)) / statistics.median(gross) if is_known else None,
        power_w=math.fsum(window.device_j or 0.0 for window in windows) / seconds if is_known else None,
        images_per_s=sum(window.runs for window in windows) * batch_size / seconds,
        quality=quality if is_known else "unavailable",
        is_shared=max(window.other_share for window in windows) > _SHARED_ABOVE,
        source=source,
        device=device,
        batch_size=batch_size,
        window_s=window_s,
        num_windows=len(windows),
    )


def _calibrated_meter() -> NodeMeter:
    meter = NodeMeter.of_this_machine(node="inference")
    if meter.has_unknown_idle_power:
        meter.calibrate()
    return meter


def _domain(place: torch.device) -> tuple[str, dict[str, float]]:
    """Return the domain of a device, and the GPUs that a lease on it reserves."""
    if place.type == "cpu":
        return CPU, {}
    uuid = f"GPU-{torch.cuda.get_device_properties(place).uuid}"
    return f"{GPU_PREFIX}{uuid}", {uuid: 1.0}
