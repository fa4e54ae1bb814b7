"""What a sensor is: a cumulative energy reading of one domain of a node; and the search for those of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

CPU = "cpu"
RAM = "ram"
GPU_PREFIX = "gpu:"
"""A GPU's domain is this and its NVML UUID."""

SensorKind = Literal["counter", "model"]
"""What a sensor can give: a device's own energy counter, or a model, which is never better than "estimated"."""


class SensorError(Exception):
    """A sensor cannot be read now; the message is why. The meter goes on without it."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Who works on a device, as far as its driver tells.

    Args:
        sm_shares: SM use by process id, in any common unit, since the last call; `None` if the driver does not tell.
        pids: Processes that hold the device; `None` if the driver does not tell.
    """

    sm_shares: Mapping[int, float] | None = None
    pids: frozenset[int] | None = None


class Sensor(Protocol):
    """A cumulative energy reading of one domain. Only differences of readings mean anything."""

    @property
    def domain(self) -> str:
        """Domain: "cpu", "ram", or "gpu:<uuid>". Sensors of one domain (CPU packages) are added up."""

    @property
    def kind(self) -> SensorKind:
        """Whether the reading is a device counter or a model."""

    @property
    def source(self) -> str:
        """Where the reading comes from, for people."""

    @property
    def wrap_j(self) -> float | None:
        """Joules after which the reading starts again at 0, or `None` if it does not wrap."""

    @property
    def idle_power_w(self) -> float | None:
        """Power at rest that the sensor knows by itself, or `None` to have it calibrated."""

    @property
    def max_power_w(self) -> float | None:
        """Power that the device cannot exceed, to tell a wrap from a reset; `None` if unknown."""

    def read_j(self) -> float:
        """Return the cumulative energy in joules.

        Raises:
            SensorError: If it cannot be read now.
        """

    def activity(self) -> Activity | None:
        """Return who works on the device, or `None` for a domain without such knowledge."""


@dataclass(frozen=True, kw_only=True)
class FoundSensors:
    """The sensors of a machine, and what it has none for.

    Args:
        sensors: What can be read.
        unavailable: Domains that cannot be read ("gpu" for all GPUs), with the reason.
    """

    sensors: tuple[Sensor, ...]
    unavailable: Mapping[str, str] = field(default_factory=dict)


def find_sensors(*, powercap: Path = Path("/sys/class/powercap"), nvml: ModuleType | None = None) -> FoundSensors:
    """Return the best sensor of every domain of this machine: a counter, else a model, else the reason for none.

    Takes 1 to 2 s where a CPU has no counter, because its model is looked up. Opens no socket, writes no file.

    Args:
        powercap: Where Linux shows RAPL.
        nvml: Module to use as pynvml; the installed one by default.
    """
    from nasray.carbon.modelled import modelled_cpu, modelled_ram
    from nasray.carbon.nvml import find_gpus
    from nasray.carbon.rapl import find_zones

    sensors: list[Sensor] = []
    unavailable: dict[str, str] = {}
    try:
        sensors += find_gpus(nvml)
    except SensorError as error:
        unavailable["gpu"] = str(error)
    for domain, model in ((CPU, modelled_cpu), (RAM, modelled_ram)):
        try:
            sensors += find_zones(powercap, domain)
        except SensorError as no_counter:
            try:
                sensors.append(model(why=str(no_counter)))
            except SensorError as error:
                unavailable[domain] = f"{no_counter}; {error}"
    return FoundSensors(sensors=tuple(sensors), unavailable=unavailable)


def gpu_uuids(fractions: Mapping[str, float], *, nvml: ModuleType | None = None) -> dict[str, float]:
    """Return reserved fractions by GPU UUID, from fractions by the ids that Ray gives out.

    Ray's ids count GPUs in NVML's order, or are UUIDs where CUDA_VISIBLE_DEVICES held these. An id that stands for no
    GPU known here is kept, so that its energy shows as unavailable rather than as nothing.

    Args:
        fractions: Reserved fraction, in (0, 1], by id.
        nvml: Module to use as pynvml; the installed one by default.
    """
    if not fractions:
        return {}
    from nasray.carbon.nvml import uuids_by_index

    uuids = uuids_by_index(nvml)
    named: dict[str, float] = {}
    for gpu, fraction in fractions.items():
        if gpu.isdigit():
            uuid = uuids[int(gpu)] if int(gpu) < len(uuids) else f"index-{gpu}"
        else:
            uuid = next((known for known in uuids if known.startswith(gpu)), gpu)
        named[uuid] = fraction
    return named
