"""NVIDIA GPUs: their energy counters, who works on them, and their names, through NVML."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nasray.carbon.sensors import GPU_PREFIX, Activity, Sensor, SensorError, SensorKind

MAX_GPU_POWER_W = 5000.0
"""Above the peak of every GPU; a faster rise of the counter is a fault of the driver."""


class NvmlGpu:
    """One GPU, by its UUID: total energy since the driver was loaded.

    The counter is of Volta and later and moves about every 0.1 s, so that the energy of a window under 5 s has an error
    of over 2 % at its ends. A driver that was reloaded is asked again.

    Args:
        nvml: The module pynvml.
        uuid: The GPU's UUID.

    Raises:
        SensorError: If the GPU has no such counter.
    """

    kind: SensorKind = "counter"
    wrap_j: float | None = None
    idle_power_w: float | None = None
    max_power_w: float | None = MAX_GPU_POWER_W

    def __init__(self, nvml: ModuleType, uuid: str) -> None:
        self._nvml = nvml
        self._uuid = uuid
        self._handle = self._find()
        self._last_sample_us = 0
        self.domain = GPU_PREFIX + uuid
        self.source = f"NVML total energy, {_text(nvml.nvmlDeviceGetName(self._handle))}"
        self.read_j()

    def read_j(self) -> float:
        """Return the energy since the driver was loaded, in joules."""
        return float(self._ask("nvmlDeviceGetTotalEnergyConsumption")) / 1e3

    def activity(self) -> Activity:
        """Return SM use since the last call, and the processes on the GPU, as far as the driver tells."""
        return Activity(sm_shares=self._sm_shares(), pids=self._pids())

    def _sm_shares(self) -> dict[int, float] | None:
        nvml = self._nvml
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(self._handle, self._last_sample_us)
        except nvml.NVMLError as error:
            return {} if getattr(error, "value", None) == nvml.NVML_ERROR_NOT_FOUND else None
        shares: dict[int, float] = {}
        newest_us = self._last_sample_us
        for sample in samples:
            # Drivers pad their answer with entries of no process, old ones, and impossible percentages.
            if sample.pid > 0 and sample.timeStamp > self._last_sample_us and sample.smUtil <= 100:
                shares[sample.pid] = shares.get(sample.pid, 0.0) + sample.smUtil
                newest_us = max(newest_us, sample.timeStamp)
        self._last_sample_us = newest_us
        return shares

    def _pids(self) -> frozenset[int] | None:
        nvml = self._nvml
        try:
            compute = nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            graphics = nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle)
        except nvml.NVMLError:
            return None
        return frozenset(process.pid for process in [*compute, *graphics])

    def _find(self) -> Any:
        try:
            return self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        except self._nvml.NVMLError as error:
            raise SensorError(f"GPU {self._uuid} is gone ({error})") from error

    def _ask(self, function: str) -> Any:
        """Call NVML about this GPU; once more, from the start, if that fails: handles do not outlive the driver."""
        nvml = self._nvml
        try:
            return getattr(nvml, function)(self._handle)
        except nvml.NVMLError:
            try:
                nvml.nvmlInit()
                self._handle = self._find()
                return getattr(nvml, function)(self._handle)
            except nvml.NVMLError as error:
                raise SensorError(f"GPU {self._uuid} cannot be read ({error})") from error


class NvmlPolledGpu(NvmlGpu):
    """One GPU without an energy counter: its power at every reading, times the time since the last one.

    Args:
        nvml: The module pynvml.
        uuid: The GPU's UUID.
        clock: Seconds that only go forward.

    Raises:
        SensorError: If the GPU does not tell its power.
    """

    kind: SensorKind = "model"

    def __init__(self, nvml: ModuleType, uuid: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, float] | None = None
        self._energy_j = 0.0
        super().__init__(nvml, uuid)
        self.source = f"NVML power polled, {_text(nvml.nvmlDeviceGetName(self._handle))}"

    def read_j(self) -> float:
        """Return power x time since the first reading, in joules, by the trapezoidal rule."""
        power_w = float(self._ask("nvmlDeviceGetPowerUsage")) / 1e3
        now_s = self._clock()
        if self._last is not None:
            last_s, last_w = self._last
            self._energy_j += max(now_s - last_s, 0.0) * (last_w + power_w) / 2
        self._last = (now_s, power_w)
        return self._energy_j


def find_gpus(nvml: ModuleType | None = None) -> list[Sensor]:
    """Return a sensor for every GPU of the machine, with the counter where it has one, else by polling its power.

    Args:
        nvml: Module to use as pynvml; the installed one by default.

    Raises:
        SensorError: If there is no driver or no GPU that can be read.
    """
    problems: list[str] = []
    found: list[Sensor] = []
    for uuid, nvml_module in _uuids(nvml):
        for sensor in (NvmlGpu, NvmlPolledGpu):
            try:
                found.append(sensor(nvml_module, uuid))
                break
            except (SensorError, nvml_module.NVMLError) as error:
                problems.append(str(error))
    if not found:
        raise SensorError("; ".join(problems) or "no NVIDIA GPU")
    return found


def uuids_by_index(nvml: ModuleType | None = None) -> list[str]:
    """Return the UUIDs of the GPUs in NVML's order; none without a driver."""
    try:
        return [uuid for uuid, _ in _uuids(nvml)]
    except SensorError:
        return []


def _uuids(nvml: ModuleType | None) -> list[tuple[str, Any]]:
    """Return every GPU's UUID with the module that knows it."""
    module = nvml if nvml is not None else _installed()
    try:
        module.nvmlInit()
        handles = [module.nvmlDeviceGetHandleByIndex(index) for index in range(module.nvmlDeviceGetCount())]
        return [(_text(module.nvmlDeviceGetUUID(handle)), module) for handle in handles]
    except module.NVMLError as error:
        raise SensorError(f"no NVML ({error})") from error


def _installed() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise SensorError(f"no NVML ({error})") from error
    return pynvml


def _text(value: str | bytes) -> str:
    """Return text; older versions of pynvml return bytes."""
    return value.decode() if isinstance(value, bytes) else value
