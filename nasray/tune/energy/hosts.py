"""Which nodes of Ray are on one host: what one meter can read and tell apart."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def this_host() -> str:
    """Return a name for the machine and the process table that this process sees, as `<machine>-<table>`.

    Two nodes of Ray on one machine have the same host and share a meter, since counters show the whole machine.
    Containers on one machine have hosts of their own: a meter in one cannot tell the processes of another apart.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        table = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:  # not Linux, or hidden: as good as the name is
        boot, table = socket.gethostname(), "0"
    return f"{hashlib.sha256(boot.encode()).hexdigest()[:12]}-{table}"


def machine_of(host: str) -> str:
    """Return the machine that a host is on, as `this_host` names it."""
    return host.partition("-")[0]


def ask_host(node: str) -> Any:
    """Ask a node of Ray for its host, without waiting; getting the answer raises a `RayError` if the node is lost.

    Args:
        node: Ray's id of the node.
    """
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(this_host).options(num_cpus=0, max_retries=0, scheduling_strategy=where).remote()
