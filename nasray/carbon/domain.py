"""One domain of a node: its counters, made continuous, and what of their energy each lease was charged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nasray.carbon.lease import DomainEnergy, Quality
from nasray.carbon.sensors import RAM, Sensor, SensorError
from nasray.carbon.split import Usage, split_energy

_PUBLICATION_DELAY_S = 1.0  # A counter may publish, at once, what was used before the reading.


@dataclass(kw_only=True)
class Charge:
    """What one lease was charged in one domain so far."""

    energy_j: float = 0.0
    num_readings: int = 0
    missing_s: float = 0.0
    is_exclusive: bool = True
    is_witnessed: bool = False


class Domain:
    """Add up the counters of a domain, and charge every difference to those who used it since the last one.

    A reading that fails leaves the use to wait for the next good one, so that nothing is lost. What a counter lost
    (a reset) is counted as time without a reading.

    Args:
        name: "cpu", "ram" or "gpu:<uuid>".
        sensors: Its sensors; their energies add up.
    """

    def __init__(self, name: str, sensors: Sequence[Sensor]) -> None:
        self.name = name
        self.node_j = 0.0
        self.other_j = 0.0
        self.idle_j = 0.0
        self.missing_s = 0.0
        self.charges: dict[str, Charge] = {}
        self._sensors = tuple(sensors)
        self._last_j: tuple[float, ...] | None = None
        self._waiting = Usage()
        self._problem: str | None = None
        known = [sensor.idle_power_w for sensor in sensors]
        total = math.fsum(power for power in known if power is not None)
        self.idle_power_w = total if None not in known else None
        self._read()

    @property
    def source(self) -> str:
        """Its sensors, and what is wrong with them if something is."""
        source = " + ".join(dict.fromkeys(sensor.source for sensor in self._sensors))
        return f"{source} ({self._problem})" if self._problem else source

    @property
    def is_model(self) -> bool:
        """Whether some of its energy is from a model."""
        return any(sensor.kind == "model" for sensor in self._sensors)

    def settle(self, usage: Usage) -> None:
        """Read the counters, and charge what was spent since the last good reading."""
        self._waiting.add(usage)
        before = self._last_j
        now = self._read()
        if now is None:
            return
        waiting, self._waiting = self._waiting, Usage()
        differences = None if before is None else self._differences(before, now, waiting)
        if differences is None:
            self._lose(waiting)
            return
        self._charge(math.fsum(differences), waiting)

    def wait(self, usage: Usage, why: str) -> None:
        """Leave some time to the next good reading, as nobody could see who used the domain.

        Args:
            usage: Who held it.
            why: What is wrong.
        """
        self._waiting.add(usage)
        self._problem = why

    def take_idle_power(self, power_w: float, *, since_s: float) -> None:
        """Set the power at rest, and tell apart what was at rest up to now, as long as no lease was charged.

        Args:
            power_w: Power at rest.
            since_s: Seconds since the counters were first read.
        """
        self.idle_power_w = power_w
        if not self.charges:
            idle_j = min(self.other_j, power_w * since_s)
            self.other_j -= idle_j
            self.idle_j += idle_j

    def energy(self, lease: str, *, is_held: bool) -> DomainEnergy | None:
        """Return what a lease was charged, or `None` if it neither held nor used the domain.

        Args:
            lease: Its id.
            is_held: Whether it reserved part of the domain.
        """
        charge = self.charges.get(lease, Charge())
        if not is_held and charge.energy_j == 0:
            return None
        missing_s = charge.missing_s + self._waiting.present.get(lease, 0.0)
        if charge.num_readings == 0:
            return DomainEnergy(
                energy_j=None, quality="unavailable", source=f"no reading of {self.source}", missing_s=missing_s
            )
        is_measured = charge.is_exclusive and charge.is_witnessed and missing_s == 0
        return DomainEnergy(
            energy_j=charge.energy_j,
            quality="estimated" if self.is_model else "measured" if is_measured else "attributed",
            source=self.source,
            missing_s=missing_s,
        )

    def to_json(self) -> dict[str, Any]:
        """Return its totals; trials + other + idle = node."""
        quality: Quality = "estimated" if self.is_model else "measured"
        return {
            "node_j": self.node_j,
            "trials_j": math.fsum(charge.energy_j for charge in self.charges.values()),
            "other_j": self.other_j,
            "idle_j": self.idle_j,
            "quality": quality,
            "source": self.source,
            "idle_power_w": self.idle_power_w,
            "missing_s": self.missing_s + self._waiting.seconds,
        }

    def _read(self) -> tuple[float, ...] | None:
        try:
            now = tuple(sensor.read_j() for sensor in self._sensors)
        except SensorError as error:
            self._problem = str(error)
            return None
        except Exception as error:  # a driver's surprise must not end the readings of the other domains
            self._problem = f"{type(error).__name__}: {error}"
            return None
        self._problem = None
        self._last_j = now
        return now

    def _differences(self, before: Iterable[float], now: Iterable[float], usage: Usage) -> list[float] | None:
        """Return what each counter moved, wraps undone, or `None` if one of them started anew."""
        moved = []
        for sensor, first_j, last_j in zip(self._sensors, before, now, strict=True):
            difference_j = last_j - first_j
            if difference_j < 0 and sensor.wrap_j is not None:
                difference_j += sensor.wrap_j
            if difference_j < 0 or not self._is_plausible(sensor, difference_j, usage):
                return None
            moved.append(difference_j)
        return moved

    def _is_plausible(self, sensor: Sensor, difference_j: float, usage: Usage) -> bool:
        if sensor.max_power_w is None or not usage.is_timed:
            return True
        return difference_j <= sensor.max_power_w * (usage.seconds + _PUBLICATION_DELAY_S)

    def _lose(self, usage: Usage) -> None:
        self.missing_s += usage.seconds
        for lease, seconds in usage.present.items():
            self.charges.setdefault(lease, Charge()).missing_s += seconds

    def _charge(self, energy_j: float, usage: Usage) -> None:
        # Memory draws what it draws whoever uses it, so that all of it goes by reservation.
        idle_power_w = math.inf if self.name == RAM and usage.seconds else self.idle_power_w
        split = split_energy(energy_j, usage, idle_power_w)
        self.node_j += energy_j
        self.other_j += split.other_j
        self.idle_j += split.idle_j
        may_have_wrapped = usage.is_timed and any(
            sensor.wrap_j is not None
            and sensor.max_power_w is not None
            and sensor.max_power_w * usage.seconds > sensor.wrap_j
            for sensor in self._sensors
        )
        for lease, trial_j in split.trials_j.items():
            charge = self.charges.setdefault(lease, Charge())
            charge.energy_j += trial_j
            charge.num_readings += 1
            charge.is_exclusive = charge.is_exclusive and usage.is_exclusive
            charge.is_witnessed = charge.is_witnessed or usage.is_witnessed
        if may_have_wrapped:
            self._lose(usage)
