"""Which nodes of Ray are on one host: what one meter can read and tell apart."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_TIMEOUT_S = 20.0


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


def hosts_of(nodes: Sequence[str]) -> dict[str, str]:
    """Return the host of each node; a node that does not answer within 20 s, or is lost meanwhile, is left out.

    Args:
        nodes: Ray's ids of the nodes.
    """
    here = ray.get_runtime_context().get_node_id()
    found = {here: this_host()} if here in nodes else {}
    ask = ray.remote(this_host)
    answers = {
        ask.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(): node
        for node in nodes
        if node != here
    }
    if not answers:
        return found
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=_TIMEOUT_S)
    for answer in ready:
        try:
            found[answers[answer]] = ray.get(answer)
        except RayError:
            continue
    for answer in late:
        ray.cancel(answer)
    return found
