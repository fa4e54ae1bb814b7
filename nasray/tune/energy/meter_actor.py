"""The one meter of each host, as a named actor of this job."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nasray.carbon.cross_check import CrossCheck
from nasray.carbon.lease import Lease, LeaseEnergy
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.sensors import gpu_uuids
from nasray.tune.energy.hosts import this_host

_TICK_S = 1.0

logger = logging.getLogger(__name__)

_started: dict[tuple[str, str, str], Any] = {}
"""Meters by connection and host. A handle that came by name alone would not keep its actor alive."""


class MeterActor:
    """Runs on a host: reads its counters once a second and charges leases of all its nodes.

    Args:
        host: Its name, see `this_host`.
        is_cross_checked: Whether codecarbon measures the host as well.
    """

    def __init__(self, host: str, is_cross_checked: bool) -> None:
        self._meter = NodeMeter.of_this_machine(node=host)
        if self._meter.has_unknown_idle_power:
            self._meter.calibrate()
        self._cross_check = CrossCheck.start() if is_cross_checked else None
        self._lease_of: dict[tuple[int, float], str] = {}
        self._where: dict[str, dict[str, str | None]] = {}
        self._problems: set[type[Exception]] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._tick, name="nasray-meter", daemon=True).start()

    def open(self, lease: Lease, gpus: Mapping[str, float], node: str, account: str | None = None) -> str:
        """Start to charge a lease and return its id; an earlier lease of the same process ends.

        Args:
            lease: The lease, without GPUs.
            gpus: Reserved fractions by Ray's GPU ids.
            node: Ray's id of the node that the process belongs to.
            account: The account that the lease belongs to, if the process knows it.
        """
        process = (lease.pid, lease.process_created_s)
        with self._lock:
            if process in self._lease_of:
                self._meter.close(self._lease_of[process])
            lease_id = self._meter.open(lease.with_gpus(gpu_uuids(gpus)))
            self._lease_of[process], self._where[lease_id] = lease_id, {"node": node, "account": account}
            return lease_id

    def energy(self, lease_id: str) -> LeaseEnergy:
        """Return the energy of a lease so far."""
        return self._meter.energy(lease_id)

    def close(self, lease_id: str) -> LeaseEnergy:
        """Stop to charge a lease, and return its energy."""
        return self._meter.close(lease_id)

    def snapshot(self, since_s: float | None) -> dict[str, Any]:
        """Return everything charged so far, see `NodeMeter.snapshot`.

        With the `node` and the `account` of each lease, and what codecarbon says beside it.
        """
        with self._lock:  # a lease that is just being opened has no node yet
            snapshot = self._meter.snapshot(since_s)
            for lease_id, entry in snapshot["leases"].items():
                entry |= self._where[lease_id]
        if self._cross_check is not None:
            snapshot["cross_check"] = self._cross_check.compare(snapshot)
        return snapshot

    def _tick(self) -> None:
        while not self._is_over.wait(_TICK_S):
            try:
                self._meter.tick()
            except Exception as error:  # without ticks, processes that ended would be charged for ever
                self._note(error)

    def _note(self, error: Exception) -> None:
        """Have the first error of a kind shown where Ray shows what its processes say."""
        if type(error) not in self._problems:
            self._problems.add(type(error))
            logger.warning("The energy meter goes on after a reading that failed.", exc_info=error)


def start_meters(nodes: Mapping[str, str], *, is_cross_checked: bool) -> dict[str, tuple[Any, bool]]:
    """Start the meter of each host that has none in this job, without waiting for it.

    A meter takes no processor, stays on its node, and ends with the job: it is this process that holds it.

    Args:
        nodes: Ray's id of the node to start it on, by host.
        is_cross_checked: Whether codecarbon measures as well.

    Returns:
        By host the meter's handle, and whether it is new.
    """
    actor, connection = ray.remote(MeterActor), _connection()
    found = {}
    for host, node in nodes.items():
        is_new = (*connection, host) not in _started
        if is_new:
            _started[*connection, host] = actor.options(
                name=_name(host),
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                # Calls of many trials wait in line for the meter's own lock.
                max_concurrency=4,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            ).remote(host, is_cross_checked)
        found[host] = (_started[*connection, host], is_new)
    return found


def forget_meter(host: str) -> None:
    """Let go of a meter that died, so that the host may get another one."""
    _started.pop((*_connection(), host), None)


def meter_of_this_host() -> Any | None:
    """Return the meter of the host that this process runs on, or None if nobody started one."""
    if not ray.is_initialized():
        return None
    with contextlib.suppress(ValueError):
        return ray.get_actor(_name(this_host()))
    return None


def _connection() -> tuple[str, str]:
    """Return what tells this job on this cluster from any other: every local Ray calls its first job the same."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


def _name(host: str) -> str:
    return f"nasray-meter-{host}"
