"""Leases as a trial's own process takes them: exact from its first moment to its last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from nasray.carbon.lease import Lease, LeaseEnergy
from nasray.tune.energy.meter_actor import meter_of_this_host

STAGE_NAMES = {"supernet": "supernet training", "final": "final training"}
"""What stages are called in the energy ledger, where that differs from their own names."""

_TIMEOUT_S = 10.0
"""How long to wait for a meter before its figure counts as unavailable, in seconds."""


@dataclass(frozen=True)
class OpenLease:
    """A lease that is charged, and the meter that charges it. Goes through Ray.

    Args:
        owner: Whom it is charged to.
        meter: Handle of the meter's actor.
        lease_id: The meter's name for it.
    """

    owner: str
    meter: Any
    lease_id: str

    def energy(self) -> LeaseEnergy | None:
        """Return the energy so far; None if the meter does not answer."""
        return _ask(self.meter.energy.remote(self.lease_id))

    def close(self) -> LeaseEnergy | None:
        """End the lease and return its energy, the same whenever called again; None if the meter does not answer."""
        return _ask(self.meter.close.remote(self.lease_id))

    def close_soon(self) -> None:
        """End the lease without waiting for it."""
        self.meter.close.remote(self.lease_id)


def _ask(answer: ray.ObjectRef[LeaseEnergy]) -> LeaseEnergy | None:
    """Return a meter's answer. A meter that was lost or started anew knows nothing, and a trial must not suffer."""
    try:
        energy: LeaseEnergy = ray.get(answer, timeout=_TIMEOUT_S)
    except (RayError, ValueError, TimeoutError):
        return None
    return energy


_numbers = itertools.count()
_current: OpenLease | None = None
_meter: tuple[str, Any] | None = None
"""The node that this process is on, and its meter: another Ray in the same process has other nodes."""


def open_lease_here(owner: str, stage: str, *, is_new: bool = False, account: str | None = None) -> OpenLease | None:
    """Charge this process, with its children and what Ray reserved for it, to an owner from now on.

    A process works for one owner at a time: a lease of another owner ends, the same owner's goes on.

    Args:
        owner: A trial id, or `OVERHEAD`.
        stage: Part of the work.
        is_new: Whether the same owner's lease ends as well, as that of an earlier attempt does.
        account: The account that it belongs to, see `ClusterAccount.session`; None leaves it to the owner, or to the
            only account that there is.

    Returns:
        The lease; None if no meter runs on this node.
    """
    global _current, _meter
    if _current is not None and _current.owner == owner and not is_new:
        return _current
    _current = None
    # A look-up by name takes longer than the meter's answer, and is made anew where the known meter is gone.
    node = ray.get_runtime_context().get_node_id()
    if _meter is not None and _meter[0] == node:
        _current = _opened(_meter[1], owner, stage, account)
    if _current is None:
        meter = meter_of_this_host()
        _meter = None if meter is None else (node, meter)
        _current = None if meter is None else _opened(meter, owner, stage, account)
    return _current


def _opened(meter: Any, owner: str, stage: str, account: str | None) -> OpenLease | None:
    """Return a new lease of this process; None if the meter is gone."""
    context = ray.get_runtime_context()
    reserved = _reserved(context)
    memory = reserved.get("memory")
    lease = Lease.of_this_process(
        owner=owner,
        stage=stage,
        cpus=float(reserved.get("CPU", 0.0)),
        memory_bytes=None if memory is None else int(memory),
        attempt=next(_numbers),
    )
    try:
        lease_id = ray.get(
            meter.open.remote(lease, _gpu_shares(context, reserved), context.get_node_id(), account),
            timeout=_TIMEOUT_S,
        )
    except (RayError, ValueError, TimeoutError):
        return None
    return OpenLease(owner, meter, lease_id)


def close_lease_here() -> None:
    """End the lease of this process, if it has one."""
    global _current
    if _current is not None:
        _current.close()
        _current = None


def _reserved(context: Any) -> dict[str, float]:
    """Return what Ray reserved for this process; nothing for the driver, about which Ray refuses to be asked."""
    try:
        return dict(context.get_assigned_resources())
    except AssertionError:
        return {}


def _gpu_shares(context: Any, reserved: dict[str, float]) -> dict[str, float]:
    """Return the reserved fraction of each GPU, by Ray's id."""
    ids = context.get_accelerator_ids().get("GPU", [])
    return {str(gpu): min(1.0, reserved.get("GPU", 0.0) / len(ids)) for gpu in ids}


@dataclass
class Window:
    """A part of a process's time, filled when it is over; a view of its lease, which no total adds again.

    Attributes:
        seconds: How long it took.
        energy_j: Joules, or None if unknown.
        quality: How the figure came about.
        source: From which counters or models, or why there is none.
    """

    seconds: float = 0.0
    energy_j: float | None = None
    quality: str = "unavailable"
    source: str = "no meter runs on this node; give the Tuner an EnergyCallback"


@contextmanager
def metered(stage: str = "trial", *, owner: str | None = None) -> Iterator[Window]:
    """Tell what the block costs in energy, inside a trial whose Tuner has an `EnergyCallback`.

    Charges everything of this process and its children, so two blocks at a time in one process see each other. Without
    a meter on the node the window is `unavailable`. In an actor or task that a trial started, name the trial: what the
    block uses is then charged to it, and counts as other work without.

    Args:
        stage: Part of the work, if this process has no lease yet.
        owner: Trial to charge, if this process has no lease yet; by default the one that runs in it.

    Yields:
        The window, whose figures are set at the end of the block.
    """
    is_opened_here = _current is None
    lease = open_lease_here(owner or _owner(), stage) if ray.is_initialized() else None
    before, window = lease.energy() if lease else None, Window()
    try:
        yield window
    finally:
        _fill(window, lease, before)
        if is_opened_here:
            close_lease_here()


def _fill(window: Window, lease: OpenLease | None, before: LeaseEnergy | None) -> None:
    after = lease.energy() if lease else None
    if before is None or after is None:
        return
    window.seconds = after.duration_s - before.duration_s
    window.quality, window.source = after.quality, after.source
    if after.energy_j is not None and before.energy_j is not None:
        window.energy_j = after.energy_j - before.energy_j


def _owner() -> str:
    """Return the trial that this process works for; a process that works for none is its own."""
    if _current is not None:
        return _current.owner
    from ray import tune

    return tune.get_context().get_trial_id() or ray.get_runtime_context().get_worker_id()
