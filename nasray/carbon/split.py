"""The rules by which the energy of one domain is divided among leases, others and idleness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Usage:
    """Who used a domain, and who reserved it, over some time. Later use is added by `add`.

    Args:
        seconds: Length of the time.
        active: Use by lease: CPU seconds, or SM share x seconds. Any common unit.
        other: Use that no lease stands for, in the unit of `active`.
        reserved: Reserved fraction of the domain x seconds, by lease; together at most `seconds`.
        present: Seconds that each lease was open.
        is_exclusive: Whether one lease held the whole domain all the time and nobody else was seen on it.
        is_witnessed: Whether the lease was seen there, which proves that a driver's silence about others means none.
        is_timed: Whether the clock went forward; without it no power can be told.
    """

    seconds: float = 0.0
    active: dict[str, float] = field(default_factory=dict)
    other: float = 0.0
    reserved: dict[str, float] = field(default_factory=dict)
    present: dict[str, float] = field(default_factory=dict)
    is_exclusive: bool = True
    is_witnessed: bool = False
    is_timed: bool = True

    def add(self, later: Usage) -> None:
        """Add the use of a later time."""
        same_holders = self.seconds == 0 or self.present.keys() == later.present.keys()
        self.is_exclusive = self.is_exclusive and later.is_exclusive and same_holders
        self.is_witnessed = self.is_witnessed or later.is_witnessed
        self.is_timed = self.is_timed and later.is_timed
        self.seconds += later.seconds
        self.other += later.other
        for mine, theirs in (
            (self.active, later.active),
            (self.reserved, later.reserved),
            (self.present, later.present),
        ):
            for lease, amount in theirs.items():
                mine[lease] = mine.get(lease, 0.0) + amount


@dataclass(frozen=True, kw_only=True)
class Split:
    """One amount of energy, divided: `trials_j` by lease, plus `other_j`, plus `idle_j`."""

    trials_j: Mapping[str, float]
    other_j: float
    idle_j: float


def split_energy(energy_j: float, usage: Usage, idle_power_w: float | None) -> Split:
    """Divide the energy of a domain.

    What exceeds idle power goes by use, and to "other" where no lease used or held the domain. The idle part goes by
    reserved fraction, and to "idle" where nobody reserved.

    Args:
        energy_j: Energy of the domain over the time of `usage`, 0 or more.
        usage: Who used and reserved it.
        idle_power_w: Power at rest; infinite for a domain that is only ever held (RAM); `None` if it was not
            calibrated, so that all of the energy goes by use.
    """
    idle_j = min(energy_j, idle_power_w * usage.seconds) if idle_power_w else 0.0
    active, other_j = _by_weight(energy_j - idle_j, usage.active, usage.other)
    held, free_j = _by_weight(idle_j, usage.reserved, usage.seconds - math.fsum(usage.reserved.values()))
    trials_j = {lease: active.get(lease, 0.0) + held.get(lease, 0.0) for lease in usage.present}
    return Split(trials_j=trials_j, other_j=other_j, idle_j=free_j)


def reserved_fractions(wanted: Mapping[str, float]) -> dict[str, float]:
    """Return reserved fractions that are at most 1 together: those of an overbooked domain shrink alike."""
    total = math.fsum(wanted.values())
    return {lease: fraction / total if total > 1 else fraction for lease, fraction in wanted.items()}


def _by_weight(amount: float, weights: Mapping[str, float], rest: float) -> tuple[dict[str, float], float]:
    """Divide an amount by weight, and return the parts and what is left for `rest`, which takes all if no weight is."""
    total = math.fsum([*weights.values(), max(rest, 0.0)])
    if not total > 0:
        return {}, amount
    parts = {lease: amount * (weight / total) for lease, weight in weights.items()}
    if rest <= 0:
        return parts, 0.0
    return parts, max(amount - math.fsum(parts.values()), 0.0)
