"""The one meter of each node, as a named actor of this job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nasray.carbon.cross_check import CrossCheck
from nasray.carbon.lease import Lease, LeaseEnergy
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.sensors import gpu_uuids

_TICK_S = 1.0

_started: dict[tuple[str, str], Any] = {}
"""Meters by job and node. A handle that came by name alone would not keep its actor alive."""


class MeterActor:
    """Runs on a node: reads its counters once a second and charges leases.

    Args:
        node: Ray's id of the node.
        is_cross_checked: Whether codecarbon measures the node as well.
    """

    def __init__(self, node: str, is_cross_checked: bool) -> None:
        self._meter = NodeMeter.of_this_machine(node=node)
        if self._meter.has_unknown_idle_power:
            self._meter.calibrate()
        self._cross_check = CrossCheck.start() if is_cross_checked else None
        self._lease_of: dict[tuple[int, float], str] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._tick, name="nasray-meter", daemon=True).start()

    def open(self, lease: Lease, gpus: Mapping[str, float]) -> str:
        """Start to charge a lease and return its id; an earlier lease of the same process ends.

        Args:
            lease: The lease, without GPUs.
            gpus: Reserved fractions by Ray's GPU ids.
        """
        process = (lease.pid, lease.process_created_s)
        with self._lock:
            if process in self._lease_of:
                self._meter.close(self._lease_of[process])
            self._lease_of[process] = self._meter.open(lease.with_gpus(gpu_uuids(gpus)))
            return self._lease_of[process]

    def energy(self, lease_id: str) -> LeaseEnergy:
        """Return the energy of a lease so far."""
        return self._meter.energy(lease_id)

    def close(self, lease_id: str) -> LeaseEnergy:
        """Stop to charge a lease, and return its energy."""
        return self._meter.close(lease_id)

    def snapshot(self, since_s: float | None) -> dict[str, Any]:
        """Return everything charged so far, see `NodeMeter.snapshot`, with what codecarbon says beside it."""
        snapshot = self._meter.snapshot(since_s)
        if self._cross_check is not None:
            snapshot["cross_check"] = self._cross_check.compare(snapshot)
        return snapshot

    def _tick(self) -> None:
        while not self._is_over.wait(_TICK_S):
            self._meter.tick()


def start_meters(nodes: Sequence[str], *, is_cross_checked: bool) -> dict[str, tuple[Any, bool]]:
    """Start the meter of each node that has none in this job, without waiting for it.

    A meter takes no processor, stays on its node, and ends with the job: it is this process that holds it.

    Args:
        nodes: Ray's ids of the nodes.
        is_cross_checked: Whether codecarbon measures as well.

    Returns:
        By node the meter's handle, and whether it is new.
    """
    actor, job = ray.remote(MeterActor), ray.get_runtime_context().get_job_id()
    found = {}
    for node in nodes:
        is_new = (job, node) not in _started
        if is_new:
            _started[job, node] = actor.options(
                name=_name(node),
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                # Calls of many trials wait in line for the meter's own lock.
                max_concurrency=4,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            ).remote(node, is_cross_checked)
        found[node] = (_started[job, node], is_new)
    return found


def forget_meter(node: str) -> None:
    """Let go of a meter that died, so that the node may get another one."""
    _started.pop((ray.get_runtime_context().get_job_id(), node), None)


def meter_of_this_node() -> Any | None:
    """Return the meter of the node that this process runs on, or None if nobody started one."""
    if not ray.is_initialized():
        return None
    with contextlib.suppress(ValueError):
        return ray.get_actor(_name(ray.get_runtime_context().get_node_id()))
    return None


def _name(node: str) -> str:
    return f"nasray-meter-{node}"
