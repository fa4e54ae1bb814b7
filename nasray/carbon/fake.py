"""Sensors, processes and a clock that do as they are told, for tests of whatever measures energy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from nasray.carbon.processes import ProcessTimes
from nasray.carbon.sensors import Activity, SensorError, SensorKind


@dataclass(kw_only=True)
class FakeSensor:
    """A sensor whose counter moves by `spend`.

    Args:
        domain: See `Sensor`.
        kind: See `Sensor`.
        wrap_j: See `Sensor`.
        idle_power_w: See `Sensor`.
        max_power_w: See `Sensor`.
        value_j: Where the counter stands.
        failure: While set, reading fails with this message.
        seen: What `activity` returns.
    """

    domain: str
    kind: SensorKind = "counter"
    wrap_j: float | None = None
    idle_power_w: float | None = None
    max_power_w: float | None = None
    value_j: float = 0.0
    failure: str | None = None
    seen: Activity | None = None
    source: str = "fake counter"

    def spend(self, energy_j: float) -> None:
        """Move the counter on, wrapping where it wraps."""
        self.value_j += energy_j
        if self.wrap_j is not None:
            self.value_j %= self.wrap_j

    def read_j(self) -> float:
        """Return where the counter stands."""
        if self.failure is not None:
            raise SensorError(self.failure)
        return self.value_j

    def activity(self) -> Activity | None:
        """Return what the test set."""
        return self.seen


@dataclass(kw_only=True)
class FakeProcesses:
    """A process table that a test fills.

    Args:
        num_cpus: Cores of the node.
        memory_bytes: Memory of the node.
        busy_s: CPU seconds of the whole node so far.
        table: Processes by id; those of no tree as well.
    """

    num_cpus: float = 8.0
    memory_bytes: int = 64 * 2**30
    busy_s: float = 0.0
    table: dict[int, ProcessTimes] = field(default_factory=dict)

    def start(self, pid: int, *, parent: int = 0, created_s: float = 0.0) -> None:
        """Add a process that has not run yet."""
        self.table[pid] = ProcessTimes(pid=pid, parent=parent, created_s=created_s, own_s=0.0, children_s=0.0)

    def work(self, pid: int, seconds: float) -> None:
        """Let a process use CPU time."""
        self.table[pid] = replace(self.table[pid], own_s=self.table[pid].own_s + seconds)
        self.busy_s += seconds

    def end(self, pid: int, *, is_reaped: bool = True) -> None:
        """End a process; its parent, if listed, inherits its time when it waits for it."""
        gone = self.table.pop(pid)
        parent = self.table.get(gone.parent)
        if is_reaped and parent is not None:
            inherited = parent.children_s + gone.own_s + gone.children_s
            self.table[parent.pid] = replace(parent, children_s=inherited)

    def scan(self, roots: Collection[int]) -> Mapping[int, ProcessTimes]:
        """Return every process; more than the trees of the roots does no harm."""
        return dict(self.table)

    def node_busy_s(self) -> float:
        """Return the CPU seconds of the whole node."""
        return self.busy_s

    def is_alive(self, pid: int, created_s: float) -> bool:
        """Return whether the process is listed with that creation time."""
        return pid in self.table and self.table[pid].created_s == created_s

    def exists(self, pid: int) -> bool:
        """Return whether the process is listed."""
        return pid in self.table


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.now_s += seconds
