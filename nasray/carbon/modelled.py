"""CPU and RAM without a counter: codecarbon's table of TDPs times load, and its model of memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from nasray.carbon.codecarbon_quiet import codecarbon_name, quiet_codecarbon
from nasray.carbon.sensors import CPU, RAM, Activity, Sensor, SensorError, SensorKind

IDLE_FRACTION_OF_TDP = 0.1
"""What a CPU takes at rest: codecarbon's lower bound, `CPU._calculate_power_from_cpu_load`."""


@dataclass(kw_only=True)
class ModelledCpu:
    """CPU energy as TDP x load, at least a tenth of the TDP. Off by tens of percent; never better than estimated.

    Args:
        tdp_w: Thermal design power of all packages together.
        source: Where the TDP comes from.
        cpu_times: Returns busy and total CPU seconds of the machine so far.
        clock: Seconds that only go forward.
    """

    tdp_w: float
    source: str
    cpu_times: Callable[[], tuple[float, float]] = field(default_factory=lambda: _machine_times)
    clock: Callable[[], float] = time.monotonic
    domain: str = CPU
    kind: SensorKind = "model"
    wrap_j: float | None = None
    max_power_w: float | None = None
    _energy_j: float = 0.0
    _last: tuple[float, float, float] | None = None

    @property
    def idle_power_w(self) -> float | None:
        """Power at rest."""
        return self.tdp_w * IDLE_FRACTION_OF_TDP

    def read_j(self) -> float:
        """Return the modelled energy since the first reading, in joules."""
        now = (self.clock(), *self.cpu_times())
        if self._last is not None:
            seconds, busy_s, total_s = (max(new - old, 0.0) for new, old in zip(now, self._last, strict=True))
            load = min(busy_s / total_s, 1.0) if total_s else 0.0
            self._energy_j += seconds * self.tdp_w * max(load, IDLE_FRACTION_OF_TDP)
        self._last = now
        return self._energy_j

    def activity(self) -> Activity | None:
        """Return `None`: the meter asks the processes themselves."""
        return None


@dataclass(kw_only=True)
class ModelledRam:
    """RAM energy as constant power; never better than estimated.

    Args:
        power_w: Power of all memory.
        source: Where it comes from.
        clock: Seconds that only go forward.
    """

    power_w: float
    source: str
    clock: Callable[[], float] = time.monotonic
    domain: str = RAM
    kind: SensorKind = "model"
    wrap_j: float | None = None
    max_power_w: float | None = None
    _energy_j: float = 0.0
    _last_s: float | None = None

    @property
    def idle_power_w(self) -> float | None:
        """Power at rest, which is all of it."""
        return self.power_w

    def read_j(self) -> float:
        """Return the modelled energy since the first reading, in joules."""
        now_s = self.clock()
        if self._last_s is not None:
            self._energy_j += self.power_w * max(now_s - self._last_s, 0.0)
        self._last_s = now_s
        return self._energy_j

    def activity(self) -> Activity | None:
        """Return `None`: memory is held, not worked on."""
        return None


def modelled_cpu(*, why: str) -> ModelledCpu:
    """Return the model of this machine's CPU; about 1.5 s, because its name is looked up.

    A CPU that codecarbon's table lacks gets its 4 W per thread. Unlike codecarbon, that is not multiplied by sockets
    again, and load counts linearly.

    Args:
        why: Why there is no counter, for the source.

    Raises:
        SensorError: If codecarbon cannot name a power either.
    """
    try:
        with quiet_codecarbon():
            model, tdp_w, is_known, num_sockets = _look_up_tdp()
    except Exception as error:  # internals of another package; the meter must not fail for want of an estimate
        raise SensorError(f"no TDP from codecarbon ({type(error).__name__}: {error})") from error
    if not tdp_w:
        raise SensorError(f"no TDP for {model} from codecarbon")
    origin = "TDP" if is_known else "4 W per thread, CPU unknown to"
    where = f"{codecarbon_name()}'s table" if is_known else codecarbon_name()
    total_w = tdp_w * (num_sockets if is_known else 1)
    return ModelledCpu(
        tdp_w=total_w, source=f"load x {total_w:g} W ({origin}{' of' if is_known else ''} {where}), {model}; {why}"
    )


def modelled_ram(*, why: str) -> Sensor:
    """Return the model of this machine's memory: codecarbon's watts per module, by the installed size.

    Args:
        why: Why there is no counter, for the source.

    Raises:
        SensorError: If codecarbon has no figure.
    """
    try:
        with quiet_codecarbon():
            from codecarbon.external.ram import RAM as MemoryModel  # noqa: N811

            power_w = float(MemoryModel(tracking_mode="machine").total_power().W)
    except Exception as error:  # internals of another package; the meter must not fail for want of an estimate
        raise SensorError(f"no memory model from codecarbon ({type(error).__name__}: {error})") from error
    if not power_w > 0:
        raise SensorError("no memory model from codecarbon")
    size_gb = psutil.virtual_memory().total / 1e9
    return ModelledRam(power_w=power_w, source=f"{power_w:g} W for {size_gb:.0f} GB ({codecarbon_name()}); {why}")


def _look_up_tdp() -> tuple[str, float | None, bool, int]:
    """Return the CPU's name, its power in W, whether the table knows it, and the number of sockets."""
    from codecarbon.core import cpu, hardware_cache, util

    caches: Any = hardware_cache
    utilities: Any = util
    found = caches.get_cached_tdp(cpu)
    is_known = found._get_cpu_power_from_registry(found.model) is not None
    return found.model, found.tdp, is_known, utilities.count_physical_cpus()


def _machine_times() -> tuple[float, float]:
    """Return busy and total CPU seconds of the machine; guests are in user and nice already."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
