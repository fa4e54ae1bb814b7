"""Who holds which part of a node, and what energy it is charged for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from nasray.reading import build, short

Quality = Literal["measured", "attributed", "estimated", "unavailable"]
"""How an energy came about, best first: a device counter over an exclusive window; a counter, split by a rule; a
model (TDP x load, RAM table); not known."""

ClosedBy = Literal["caller", "process gone", "meter gone"]
"""Who ended a lease. "process gone": its process ended without closing it. "meter gone": its meter was lost, with its
host or without, and nobody knows how it went on."""

OVERHEAD = "overhead"
"""Owner of the leases that belong to no trial, such as the driver's."""

_QUALITIES: tuple[Quality, ...] = get_args(Quality)


def worst_quality(qualities: Iterable[Quality]) -> Quality:
    """Return the worst of several qualities; "unavailable" if there is none."""
    return max(qualities, key=_QUALITIES.index, default="unavailable")


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What one process, with its children, holds of a node while it works for one owner.

    Args:
        owner: Whom the energy is charged to: a trial id, or `OVERHEAD`.
        stage: Part of the work, such as "search", "supernet training" or "final training".
        pid: Process that works; its children are its own unless they hold a lease themselves.
        process_created_s: Creation time of that process as psutil gives it, seconds since 1970; tells a reused pid.
        cpus: Reserved cores, 0 or more.
        gpus: Reserved fraction of each GPU, in (0, 1], by NVML UUID ("GPU-...").
        memory_bytes: Reserved memory, or `None` to be charged for RAM by the share of the cores.
        attempt: Which attempt of the owner this is, from 0. Energies of attempts add up.

    Raises:
        ValueError: If a value is out of range.
    """

    owner: str
    stage: str
    pid: int
    process_created_s: float
    cpus: float = 0.0
    gpus: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    attempt: int = 0

    def __post_init__(self) -> None:
        for name in ("owner", "stage"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` must not be empty. Name whom, and which part of the work, to charge.")
        if not (math.isfinite(self.cpus) and self.cpus >= 0):
            raise ValueError(f"`cpus` must be 0 or more cores, got {self.cpus} for {self.owner}.")
        for uuid, fraction in self.gpus.items():
            if not 0 < fraction <= 1:
                raise ValueError(
                    f"`gpus` must hold fractions above 0 and up to 1, got {fraction} of {uuid} for {self.owner}. "
                    "Name every whole GPU on its own."
                )
        if self.memory_bytes is not None and self.memory_bytes < 0:
            raise ValueError(f"`memory_bytes` must be 0 or more, or None, got {self.memory_bytes} for {self.owner}.")
        if self.attempt < 0:
            raise ValueError(f"`attempt` must be 0 or more, got {self.attempt} for {self.owner}.")

    @classmethod
    def of_this_process(
        cls,
        *,
        owner: str,
        stage: str,
        cpus: float = 0.0,
        gpus: Mapping[str, float] | None = None,
        memory_bytes: int | None = None,
        attempt: int = 0,
    ) -> Lease:
        """Return a lease for the calling process; see `Lease` for the arguments."""
        import psutil

        return cls(
            owner=owner,
            stage=stage,
            pid=os.getpid(),
            process_created_s=psutil.Process().create_time(),
            cpus=cpus,
            gpus=dict(gpus or {}),
            memory_bytes=memory_bytes,
            attempt=attempt,
        )

    def with_gpus(self, gpus: Mapping[str, float]) -> Lease:
        """Return this lease with other GPUs, such as those that the node knows by UUID."""
        return replace(self, gpus=dict(gpus))

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold; `from_json` reads it."""
        return {**vars(self), "gpus": dict(self.gpus)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lease:
        """Return the lease that `to_json` wrote.

        Raises:
            ValueError: If a key is missing or unknown, or a value is out of range.
        """
        try:
            return build(cls, value)
        except ValueError as error:
            raise ValueError(f"A lease must hold what `Lease.to_json` writes, got {short(value)} ({error}).") from error


@dataclass(frozen=True, kw_only=True)
class DomainEnergy:
    """Energy in one domain of a node: a GPU, the CPU, the RAM.

    Args:
        energy_j: Joules, or `None` if unknown.
        quality: How the figure came about.
        source: Counter or model, and the rule of the split; for an unavailable figure, why.
        missing_s: Seconds that no reading covers. Above 0 the energy is a lower bound.
    """

    energy_j: float | None
    quality: Quality
    source: str
    missing_s: float = 0.0

    def __add__(self, other: DomainEnergy) -> DomainEnergy:
        """Return both energies together: unknown if one of them is, and as good as the worse of them."""
        known = self.energy_j is not None and other.energy_j is not None
        return DomainEnergy(
            energy_j=(self.energy_j or 0.0) + (other.energy_j or 0.0) if known else None,
            quality=worst_quality((self.quality, other.quality)),
            source=" | ".join(dict.fromkeys([*self.source.split(" | "), *other.source.split(" | ")])),
            missing_s=self.missing_s + other.missing_s,
        )


@dataclass(frozen=True, kw_only=True)
class LeaseEnergy:
    """Energy that one lease, or all attempts of one owner, is charged for.

    Args:
        owner: See `Lease`.
        stage: See `Lease`; of a sum over stages, all of them joined by ", ".
        domains: Energy by domain: "cpu", "ram", and "gpu:<uuid>" for every GPU it reserved or worked on.
        duration_s: Seconds that the lease was open; of a sum, added up.
        num_attempts: How many leases are added up.
        closed_by: Who ended the last lease, or `None` while it is open.
    """

    owner: str
    stage: str
    domains: Mapping[str, DomainEnergy]
    duration_s: float
    num_attempts: int = 1
    closed_by: ClosedBy | None = None

    @property
    def energy_j(self) -> float | None:
        """Joules over all domains, or `None` if one of them is unknown."""
        known = [domain.energy_j for domain in self.domains.values() if domain.energy_j is not None]
        return math.fsum(known) if known and len(known) == len(self.domains) else None

    @property
    def quality(self) -> Quality:
        """The worst quality among the domains."""
        return worst_quality(domain.quality for domain in self.domains.values())

    @property
    def source(self) -> str:
        """Source of every domain, as "cpu: ...; ram: ..."."""
        return "; ".join(f"{name}: {domain.source}" for name, domain in self.domains.items())

    @property
    def missing_s(self) -> float:
        """Longest time in a domain that no reading covers, seconds. Above 0 the energy is a lower bound."""
        return max((domain.missing_s for domain in self.domains.values()), default=0.0)

    def __add__(self, other: LeaseEnergy) -> LeaseEnergy:
        """Return the energy of two leases of the same owner together.

        Raises:
            ValueError: If the owners differ.
        """
        if self.owner != other.owner:
            raise ValueError(f"`owner` must be the same to add energies, got {self.owner!r} and {other.owner!r}.")
        names = dict.fromkeys([*self.domains, *other.domains])
        return LeaseEnergy(
            owner=self.owner,
            stage=", ".join(dict.fromkeys([*self.stage.split(", "), *other.stage.split(", ")])),
            domains={name: _together(self.domains.get(name), other.domains.get(name)) for name in names},
            duration_s=self.duration_s + other.duration_s,
            num_attempts=self.num_attempts + other.num_attempts,
            closed_by=other.closed_by,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold, with the totals for readers; `from_json` reads it."""
        totals = {
            "energy_j": self.energy_j,
            "quality": self.quality,
            "source": self.source,
            "missing_s": self.missing_s,
        }
        return {**vars(self), "domains": {name: dict(vars(domain)) for name, domain in self.domains.items()}, **totals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LeaseEnergy:
        """Return the energy that `to_json` wrote.

        Raises:
            ValueError: If a key is missing, a quality is unknown, or an energy or a time is negative.
        """
        try:
            energy = build(cls, {name: value[name] for name in cls.__dataclass_fields__ if name in value})
        except (TypeError, ValueError) as error:
            raise ValueError(f"An energy must hold what `LeaseEnergy.to_json` writes ({error}).") from error
        energies = [domain.energy_j for domain in energy.domains.values()]
        if any(energy_j is not None and energy_j < 0 for energy_j in energies):
            raise ValueError(f"`energy_j` must be 0 or more, got {min(filter(None, energies))} for {energy.owner!r}.")
        if min(energy.duration_s, energy.missing_s) < 0 or energy.num_attempts < 1:
            raise ValueError(f"Times of {energy.owner!r} must be 0 or more, and its attempts at least 1.")
        return energy


def _together(one: DomainEnergy | None, other: DomainEnergy | None) -> DomainEnergy:
    """Return what two leases are charged in a domain that at least one of them used."""
    if one is None or other is None:
        return one or other or DomainEnergy(energy_j=None, quality="unavailable", source="not used")
    return one + other
