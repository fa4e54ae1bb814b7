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
from nasray.carbon.nvml import uuids_by_index

_TICK_S = 1.0


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
        self._is_over = threading.Event()
        threading.Thread(target=self._tick, name="nasray-meter", daemon=True).start()

    def open(self, lease: Lease, gpus: Mapping[str, float], ends: str | None) -> str:
        """Start to charge a lease and return its id.

        Args:
            lease: The lease, without GPUs.
            gpus: Reserved fractions by Ray's GPU ids.
            ends: Lease of the same process that is over.
        """
        if ends is not None:
            with contextlib.suppress(ValueError):  # a meter that was started anew does not know it
                self._meter.close(ends)
        return self._meter.open(lease.with_gpus(_by_uuid(gpus)))

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


def _by_uuid(shares: Mapping[str, float]) -> dict[str, float]:
    """Return shares of GPUs by UUID; Ray calls a GPU by NVML's index, or by the UUID where it was given that."""
    uuids = uuids_by_index() if any(gpu.isdigit() for gpu in shares) else []
    return {uuids[int(gpu)] if gpu.isdigit() and int(gpu) < len(uuids) else gpu: share for gpu, share in shares.items()}


def start_meters(nodes: Sequence[str], *, is_cross_checked: bool) -> dict[str, Any]:
    """Start the meter of each node that has none, without waiting for it, and return the handles by node.

    A meter takes no processor, stays on its node, and ends with the process that started it first.

    Args:
        nodes: Ray's ids of the nodes.
        is_cross_checked: Whether codecarbon measures as well.
    """
    actor = ray.remote(MeterActor)
    return {
        node: actor.options(
            name=_name(node),
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            # Ray's own calls wait in line; the meter locks itself.
            max_concurrency=4,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(node, is_cross_checked)
        for node in nodes
    }


def meter_of_this_node() -> Any | None:
    """Return the meter of the node that this process runs on, or None if nobody started one."""
    if not ray.is_initialized():
        return None
    with contextlib.suppress(ValueError):
        return ray.get_actor(_name(ray.get_runtime_context().get_node_id()))
    return None


def _name(node: str) -> str:
    return f"nasray-meter-{node}"
