"""CPU time of processes: which are below which, how long each ran, and whether one is still there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

_LISTING_S = 0.25  # Less than a tick, so that every tick sees all processes.
_SAME_PROCESS_S = 2.0  # The boot time that creation times rest on shifts when the system clock is set.


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTimes:
    """CPU time of a process so far.

    Args:
        pid: Process id.
        parent: Id of its parent, or of the nearest living ancestor that was seen.
        created_s: Creation time, seconds since 1970; tells a reused id.
        own_s: CPU seconds of its own, user and system.
        children_s: CPU seconds of the children that ended and that it waited for, and of theirs.
    """

    pid: int
    parent: int
    created_s: float
    own_s: float
    children_s: float


class ProcessTable(Protocol):
    """What the meter asks about processes."""

    @property
    def num_cpus(self) -> float:
        """Cores of the node, as its CPU time counts them."""

    @property
    def memory_bytes(self) -> int:
        """Memory of the node."""

    def scan(self, roots: Collection[int]) -> Mapping[int, ProcessTimes]:
        """Return the given processes and all below them, by id; those that are gone are left out."""

    def node_busy_s(self) -> float:
        """Return the CPU seconds that the whole node has been busy."""

    def is_alive(self, pid: int, created_s: float) -> bool:
        """Return whether that very process still runs."""

    def exists(self, pid: int) -> bool:
        """Return whether some process has this id here. Drivers may give ids that belong outside a container."""


class MachineProcesses:
    """The processes of this machine, through psutil.

    Parents are read once per process, and the system's processes are listed a few times a second at most, so that a
    scan mostly costs one read per process in the trees; a new child is charged from the next listing on, with all that
    it ran. A process whose parent ends stays below its nearest living ancestor, as the system would not show it.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next_listing_s = clock, 0.0
        self.num_cpus = float(psutil.cpu_count() or 1)
        self.memory_bytes = int(psutil.virtual_memory().total)
        self._processes: dict[int, psutil.Process] = {}
        self._parents: dict[int, int] = {}

    def scan(self, roots: Collection[int]) -> Mapping[int, ProcessTimes]:
        """Return the given processes and all below them, by id; those that are gone are left out."""
        if not roots:
            return {}
        if self._clock() >= self._next_listing_s or not self._parents.keys() >= set(roots):
            self._update()
            self._next_listing_s = self._clock() + _LISTING_S
        children: dict[int, list[int]] = {}
        for pid, parent in self._parents.items():
            children.setdefault(parent, []).append(pid)
        found: dict[int, ProcessTimes] = {}
        waiting = [pid for pid in roots if pid in self._parents]
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                times = self._times(pid)
                if times is not None:
                    found[pid] = times
                waiting += children.get(pid, ())
        return found

    def node_busy_s(self) -> float:
        """Return the CPU seconds that the whole node has been busy; waiting for disks is not busy."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return float(sum(times) - idle - guests)  # guests are in user and nice already

    def is_alive(self, pid: int, created_s: float) -> bool:
        """Return whether that very process still runs; a killed one that nobody waited for does not."""
        try:
            process = psutil.Process(pid)
            is_same = abs(process.create_time() - created_s) < _SAME_PROCESS_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True
        except psutil.Error:
            return False

    def exists(self, pid: int) -> bool:
        """Return whether some process has this id here."""
        return psutil.pid_exists(pid)

    def _update(self) -> None:
        """Learn of new processes, forget those that ended, and hand the orphans to the next living ancestor."""
        pids = set(psutil.pids())
        gone = {pid: self._parents.pop(pid) for pid in self._parents.keys() - pids}
        for pid in gone:
            self._processes.pop(pid, None)
        if gone:
            for pid, parent in self._parents.items():
                while parent in gone:
                    parent = gone[parent]
                self._parents[pid] = parent
        for pid in pids - self._parents.keys():
            try:
                self._processes[pid] = psutil.Process(pid)
                self._parents[pid] = self._processes[pid].ppid()
            except psutil.Error:
                self._processes.pop(pid, None)

    def _times(self, pid: int) -> ProcessTimes | None:
        process = self._processes[pid]
        try:
            times = process.cpu_times()
            created_s = process.create_time()
        except psutil.Error:
            return None
        return ProcessTimes(
            pid=pid,
            parent=self._parents[pid],
            created_s=created_s,
            own_s=times.user + times.system,
            children_s=times.children_user + times.children_system,
        )
