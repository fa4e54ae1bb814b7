"""Who used and who reserved each domain of a node since the last look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nasray.carbon.lease import Lease
from nasray.carbon.process_trees import ProcessTrees
from nasray.carbon.processes import ProcessTable
from nasray.carbon.sensors import CPU, GPU_PREFIX, RAM, Activity, Sensor
from nasray.carbon.split import Usage, reserved_fractions


class UsageReader:
    """Look at the processes and the GPUs' drivers, and say who used what since the last look.

    Args:
        processes: CPU time of processes.
        sensors: The sensors of the node; those of GPUs know which processes work on them.
    """

    def __init__(self, processes: ProcessTable, sensors: Sequence[Sensor]) -> None:
        self._processes = processes
        self._sensors = {sensor.domain: sensor for sensor in sensors}
        self._trees = ProcessTrees()
        self._busy_s = processes.node_busy_s()

    def adopt(self, lease: Lease) -> None:
        """Take the processes of a new lease as they are: what they ran before is not for it to pay."""
        self._trees.adopt(self._processes.scan([lease.pid]))

    def read(self, leases: Mapping[str, Lease], seconds: float, *, is_timed: bool) -> dict[str, Usage]:
        """Return the use of every domain since the last call.

        Args:
            leases: Those that were open all that time, by id.
            seconds: How long it was, above 0.
            is_timed: Whether that length is real.
        """
        holders = _by_pid(leases)
        # All that may fail comes first: what was looked at once is not seen again by the next call.
        scan, busy_s = self._processes.scan(holders.keys()), self._processes.node_busy_s()
        gpus = {name: sensor for name, sensor in self._sensors.items() if name.startswith(GPU_PREFIX)}
        activities = {name: sensor.activity() or Activity() for name, sensor in gpus.items()}
        cpu_s = self._trees.advance(scan, holders.keys())
        usages: dict[str, Usage] = {}
        for name in self._sensors:
            fractions = reserved_fractions(self._wanted(name, leases))
            usage = _held(leases, fractions, seconds, is_timed=is_timed)
            usage.is_witnessed = True
            if name == CPU:
                self._add_cpu(usage, cpu_s, busy_s, holders)
            elif name in gpus:
                self._add_gpu(usage, activities[name], holders)
                usage.present = {lease: seconds for lease in leases if lease in fractions or lease in usage.active}
            is_alone = usage.present.keys() <= fractions.keys() and len(fractions) == 1
            is_whole = math.isclose(math.fsum(fractions.values()), 1.0)
            usage.is_exclusive = usage.is_exclusive and is_alone and is_whole and usage.other == 0
            usages[name] = usage
        return usages

    def unread(self, leases: Mapping[str, Lease], seconds: float, *, is_timed: bool) -> dict[str, Usage]:
        """Return who held every domain where `read` failed; the next one also sees the CPU time of this time.

        Args:
            leases: See `read`.
            seconds: See `read`.
            is_timed: See `read`.
        """
        usages: dict[str, Usage] = {}
        for name in self._sensors:
            fractions = reserved_fractions(self._wanted(name, leases))
            usage = _held(leases, fractions, seconds, is_timed=is_timed)
            if name.startswith(GPU_PREFIX):
                usage.present = dict.fromkeys(fractions, seconds)
            usage.is_exclusive = False
            usages[name] = usage
        return usages

    def _wanted(self, name: str, leases: Mapping[str, Lease]) -> dict[str, float]:
        """Return the fraction of a domain that each lease reserves."""
        if name == CPU:
            wanted = {key: lease.cpus / self._processes.num_cpus for key, lease in leases.items()}
        elif name == RAM:
            wanted = {key: self._memory_fraction(lease) for key, lease in leases.items()}
        else:
            gpu = name.removeprefix(GPU_PREFIX)
            wanted = {key: lease.gpus.get(gpu, 0.0) for key, lease in leases.items()}
        return {key: fraction for key, fraction in wanted.items() if fraction > 0}

    def _memory_fraction(self, lease: Lease) -> float:
        if lease.memory_bytes is None:
            return lease.cpus / self._processes.num_cpus
        return lease.memory_bytes / self._processes.memory_bytes

    def _add_cpu(
        self, usage: Usage, cpu_s: Mapping[int, float], busy_s: float, holders: Mapping[int, Sequence[str]]
    ) -> None:
        """Add CPU seconds; those of the node beyond the leases' are others'."""
        for pid, keys in holders.items():
            for key in keys:
                usage.active[key] = cpu_s.get(pid, 0.0) / len(keys)
        usage.other = max(busy_s - self._busy_s - math.fsum(cpu_s.values()), 0.0)
        self._busy_s = busy_s

    def _add_gpu(self, usage: Usage, activity: Activity, holders: Mapping[int, Sequence[str]]) -> None:
        """Add SM shares; without usable ones, the leases that reserve the GPU count by their fraction."""
        shares = activity.sm_shares if self._is_usable(activity.sm_shares) else None
        for pid, share in (shares or {}).items():
            root = self._trees.root_of(pid)
            keys = holders.get(root, ()) if root is not None else ()
            for key in keys:
                usage.active[key] = usage.active.get(key, 0.0) + share * usage.seconds / len(keys)
            usage.other += 0.0 if keys else share * usage.seconds
        if not usage.other and not math.fsum(usage.active.values()):
            usage.active = dict(usage.reserved)
        # Only a driver that names the processes can rule out that somebody else works on the GPU.
        is_ours = [self._trees.root_of(pid) in holders for pid in activity.pids or ()]
        usage.is_exclusive = activity.pids is not None and all(is_ours)
        usage.is_witnessed = any(is_ours)

    def _is_usable(self, shares: Mapping[int, float] | None) -> bool:
        """Return whether shares can be assigned: in a container the driver may give ids that mean nothing here."""
        if shares is None:
            return False
        return all(self._trees.root_of(pid) is not None or self._processes.exists(pid) for pid in shares)


def _held(leases: Mapping[str, Lease], fractions: Mapping[str, float], seconds: float, *, is_timed: bool) -> Usage:
    """Return the use of a domain by reserved fractions alone."""
    return Usage(
        seconds=seconds,
        present=dict.fromkeys(leases, seconds),
        reserved={lease: fraction * seconds for lease, fraction in fractions.items()},
        is_timed=is_timed,
    )


def _by_pid(leases: Mapping[str, Lease]) -> dict[int, list[str]]:
    """Return the leases of every process; several leases of one process share its use alike."""
    holders: dict[int, list[str]] = {}
    for key, lease in leases.items():
        holders.setdefault(lease.pid, []).append(key)
    return holders
