"""CPU time of process trees between two scans, with the children that ended in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from nasray.carbon.processes import ProcessTimes


class ProcessTrees:
    """Tell how long each tree of processes ran since the last scan.

    A process belongs to the nearest root above it, so that trees may lie inside one another (the driver's holds the
    workers of a local Ray). A child that ends moves its time to the process that waits for it: of what that process
    inherits, the part seen while the child lived is taken off, because it was charged then.
    """

    def __init__(self) -> None:
        self._seen: dict[int, ProcessTimes] = {}
        self._root_of: dict[int, int] = {}

    def root_of(self, pid: int) -> int | None:
        """Return the root that a process was below at the last scan or the one before, or `None`."""
        return self._root_of.get(pid)

    def adopt(self, scan: Mapping[int, ProcessTimes]) -> None:
        """Take the processes that are new to us as they are, so that what they ran so far is charged to nobody."""
        self._seen = {**scan, **self._seen}

    def advance(self, scan: Mapping[int, ProcessTimes], roots: Collection[int]) -> dict[int, float]:
        """Return the CPU seconds of every root's tree since the last call. Never negative.

        Args:
            scan: The processes below the roots, and the roots themselves.
            roots: Heads of the trees.
        """
        ended_s = self._ended(scan)
        seconds = dict.fromkeys(roots, 0.0)
        belongs: dict[int, int] = {}
        for pid, times in scan.items():
            root = _root(pid, scan, seconds)
            if root is not None:
                belongs[pid] = root
                seconds[root] += self._ran(times, ended_s[pid])
        # Whoever ended since the last scan may still be named by a GPU's driver.
        self._root_of = {**{pid: root for pid, root in self._root_of.items() if pid in self._seen}, **belongs}
        self._seen = dict(scan)
        return seconds

    def _ended(self, scan: Mapping[int, ProcessTimes]) -> dict[int, float]:
        """Return the seconds, as last seen, of the processes that ended, by the living ancestor that inherits them."""
        ended_s: dict[int, float] = defaultdict(float)
        for pid, times in self._seen.items():
            if not _is_same(times, scan.get(pid)):
                heir, passed = times.parent, {pid}
                while heir not in scan and heir in self._seen and heir not in passed:
                    passed.add(heir)
                    heir = self._seen[heir].parent
                ended_s[heir] += times.own_s + times.children_s
        return ended_s

    def _ran(self, times: ProcessTimes, ended_s: float) -> float:
        before = self._seen.get(times.pid)
        if before is None or not _is_same(before, times):
            return times.own_s + max(times.children_s - ended_s, 0.0)
        inherited_s = times.children_s - before.children_s - ended_s
        return max(times.own_s - before.own_s, 0.0) + max(inherited_s, 0.0)


def _is_same(before: ProcessTimes, now: ProcessTimes | None) -> bool:
    return now is not None and now.created_s == before.created_s


def _root(pid: int, scan: Mapping[int, ProcessTimes], roots: Collection[int]) -> int | None:
    """Return the nearest root at or above a process."""
    seen = set()
    while pid not in roots:
        if pid not in scan or pid in seen:
            return None
        seen.add(pid)
        pid = scan[pid].parent
    return pid
