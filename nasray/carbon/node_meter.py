"""The one reader of a node's energy counters: splits what it reads among the leases that are open."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasray.carbon.domain import Domain
from nasray.carbon.lease import ClosedBy, DomainEnergy, Lease, LeaseEnergy
from nasray.carbon.processes import MachineProcesses, ProcessTable
from nasray.carbon.sensors import CPU, GPU_PREFIX, RAM, Sensor, find_sensors
from nasray.carbon.usage import UsageReader

_SETTLED_S = 60.0  # A counter that could not be read may charge a lease that long after its end.
_TINY_S = 1e-9  # Stands for no time, so that weights by time stay usable.


@dataclass(kw_only=True)
class _Account:
    lease: Lease
    duration_s: float = 0.0
    closed_by: ClosedBy | None = None
    ended_s: float | None = None


class NodeMeter:
    """Charge the energy of one node to leases, so that trials + other + idle = node in every domain.

    Counters are read at every `tick` (meant once a second), and whenever a lease opens, closes or is asked for. Where
    the processes cannot be seen the next reading charges that time too, and up to then it counts as without a reading.
    Methods may be called from several threads. One meter per node: two of them on a node count everything twice.

    Args:
        sensors: What to read; several sensors of one domain (CPU packages) are added up.
        node: Name of the node in snapshots and in the ledger, such as Ray's node id.
        processes: CPU time of processes; the one of this machine by default.
        clock: Seconds that only go forward; a step back counts as no time.
        unavailable: Domains without a sensor, with the reason.
        meter_id: Tells this meter from an earlier one on the same node; drawn at random by default.

    Raises:
        ValueError: If a domain has both sensors and a reason for having none.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor],
        *,
        node: str,
        processes: ProcessTable | None = None,
        clock: Callable[[], float] = time.monotonic,
        unavailable: Mapping[str, str] | None = None,
        meter_id: str | None = None,
    ) -> None:
        names = dict.fromkeys(sensor.domain for sensor in sensors)
        contradiction = names.keys() & (unavailable or {}).keys()
        if contradiction:
            raise ValueError(f"`unavailable` must not name domains with a sensor, got {sorted(contradiction)}.")
        self.node = node
        self.meter_id = meter_id or uuid.uuid4().hex
        self._unavailable = dict(unavailable or {})
        self._processes = processes if processes is not None else MachineProcesses()
        self._usage = UsageReader(self._processes, sensors)
        self._domains = {name: Domain(name, [sensor for sensor in sensors if sensor.domain == name]) for name in names}
        self._clock = clock
        self._last_s = clock()
        self._duration_s = 0.0
        self._num_steps_back = 0
        self._num_snapshots = 0
        self._accounts: dict[str, _Account] = {}
        self._open: dict[str, Lease] = {}
        self._lock = threading.RLock()

    @classmethod
    def of_this_machine(cls, *, node: str) -> NodeMeter:
        """Return a meter over the sensors of this machine (`find_sensors`); it does without those it lacks."""
        found = find_sensors()
        return cls(found.sensors, node=node, unavailable=found.unavailable)

    @property
    def has_unknown_idle_power(self) -> bool:
        """Whether a sensor does not know by itself what its domain takes at rest, so that `calibrate` helps."""
        return any(domain.idle_power_w is None for domain in self._domains.values())

    def calibrate(
        self, *, num_windows: int = 3, window_s: float = 1.0, sleep: Callable[[float], None] = time.sleep
    ) -> dict[str, float]:
        """Take the idle power of every domain from the quietest of some windows. Call it before the first lease.

        Blocks for `num_windows` x `window_s` seconds. GPU counters update every 0.1 s, so that windows of 1 s are good
        to about 10 %. Without calibration no idle part is told apart (but for modelled sensors, which know theirs).

        Args:
            num_windows: How many windows.
            window_s: Length of a window, seconds.
            sleep: Waits; replaceable for tests.

        Returns:
            Idle power in W by domain, for the domains that could be read.

        Raises:
            ValueError: If a lease is open, or a value is not positive.
        """
        if num_windows < 1 or not window_s > 0:
            raise ValueError(f"`num_windows` and `window_s` must be positive, got {num_windows} and {window_s}.")
        with self._lock:
            if self._open:
                raise ValueError(
                    "`calibrate` must run while no lease is open, for the node to be at rest. Close them first."
                )
            quietest: dict[str, float] = {}
            self._read()
            for _ in range(num_windows):
                before_j = {name: domain.node_j for name, domain in self._domains.items()}
                start_s = self._last_s
                sleep(window_s)
                self._read()
                for name, domain in self._domains.items():
                    power_w = (domain.node_j - before_j[name]) / max(self._last_s - start_s, _TINY_S)
                    quietest[name] = min(quietest.get(name, power_w), power_w)
            return self._take_idle_power(quietest)

    def open(self, lease: Lease) -> str:
        """Start to charge a lease, and return the id to close it by. Never fails for lack of a sensor."""
        with self._lock:
            self._read()
            self._usage.adopt(lease)  # may fail, and then nothing is charged
            lease_id = f"{self.meter_id}-{len(self._accounts)}"
            self._accounts[lease_id] = _Account(lease=lease)
            self._open[lease_id] = lease
            return lease_id

    def close(self, lease_id: str) -> LeaseEnergy:
        """Stop to charge a lease, and return its energy. Closing it again returns the same.

        Raises:
            ValueError: If this meter did not open the lease.
        """
        with self._lock:
            self._check(lease_id)
            if lease_id in self._open:
                self._read()
                self._end(lease_id, "caller")
            return self._energy(lease_id)

    def energy(self, lease_id: str) -> LeaseEnergy:
        """Read the counters, and return the energy of a lease so far. The difference of two calls is a sub-window.

        Raises:
            ValueError: If this meter did not open the lease.
        """
        with self._lock:
            self._check(lease_id)
            self._read()
            return self._energy(lease_id)

    def tick(self) -> None:
        """Read the counters, charge the open leases, and close those whose process is gone. Call once a second."""
        with self._lock:
            self._read()
            for lease_id, lease in list(self._open.items()):
                if not self._processes.is_alive(lease.pid, lease.process_created_s):
                    self._end(lease_id, "process gone")

    def snapshot(self, since_s: float | None = None) -> dict[str, Any]:
        """Read the counters, and return everything charged so far as a dict that JSON can hold, for `EnergyLedger`.

        Args:
            since_s: `duration_s` of the snapshot before; leases that ended well before it are left out, as the ledger
                has them.

        Returns:
            "node", "meter_id", "sequence" (grows by snapshot), "duration_s", "clock_steps_back", "domains": by name
            {node_j, trials_j, other_j, idle_j, quality, source, idle_power_w, missing_s}, and "leases": by lease id
            {"lease": `Lease.to_json`, "energy": `LeaseEnergy.to_json`}.
        """
        with self._lock:
            self._read()
            self._num_snapshots += 1
            missing: dict[str, dict[str, Any]] = {
                name: {"node_j": None, "trials_j": None, "other_j": None, "idle_j": None, "quality": "unavailable"}
                | {"source": reason, "idle_power_w": None, "missing_s": self._duration_s}
                for name, reason in self._unavailable.items()
            }
            return {
                "node": self.node,
                "meter_id": self.meter_id,
                "sequence": self._num_snapshots,
                "duration_s": self._duration_s,
                "clock_steps_back": self._num_steps_back,
                "domains": {**{name: domain.to_json() for name, domain in self._domains.items()}, **missing},
                "leases": {
                    lease_id: {"lease": account.lease.to_json(), "energy": self._energy(lease_id).to_json()}
                    for lease_id, account in self._accounts.items()
                    if since_s is None or account.ended_s is None or account.ended_s >= since_s - _SETTLED_S
                },
            }

    def _read(self) -> None:
        """Charge what was spent since the last reading to the leases that are open now."""
        now_s = self._clock()
        seconds = now_s - self._last_s
        self._last_s = now_s
        is_timed = seconds >= 0
        self._num_steps_back += not is_timed
        seconds = max(seconds, 0.0)
        self._duration_s += seconds
        for lease_id in self._open:
            self._accounts[lease_id].duration_s += seconds
        try:
            usages = self._usage.read(self._open, max(seconds, _TINY_S), is_timed=is_timed)
        except Exception as error:  # whatever the system answers, what is charged stays and the next reading goes on
            why = f"{type(error).__name__}: {error}"
            for name, usage in self._usage.unread(self._open, max(seconds, _TINY_S), is_timed=is_timed).items():
                self._domains[name].wait(usage, why)
            return
        for name, usage in usages.items():
            self._domains[name].settle(usage)

    def _take_idle_power(self, power_w: Mapping[str, float]) -> dict[str, float]:
        """Set the idle power of the domains that spent anything and whose sensors do not know it by themselves."""
        for name, value in power_w.items():
            if self._domains[name].idle_power_w is None and value > 0:
                self._domains[name].take_idle_power(value, since_s=self._duration_s)
        return {name: domain.idle_power_w for name, domain in self._domains.items() if domain.idle_power_w is not None}

    def _energy(self, lease_id: str) -> LeaseEnergy:
        account = self._accounts[lease_id]
        held = [CPU, RAM, *(GPU_PREFIX + gpu for gpu in account.lease.gpus)]
        domains: dict[str, DomainEnergy] = {}
        for name in dict.fromkeys([*held, *self._domains]):
            if name not in self._domains:
                domains[name] = DomainEnergy(energy_j=None, quality="unavailable", source=self._reason(name))
                continue
            energy = self._domains[name].energy(lease_id, is_held=name in held)
            if energy is not None:
                domains[name] = energy
        return LeaseEnergy(
            owner=account.lease.owner,
            stage=account.lease.stage,
            domains=domains,
            duration_s=account.duration_s,
            closed_by=account.closed_by,
        )

    def _reason(self, name: str) -> str:
        kind = name.partition(":")[0]
        return self._unavailable.get(name) or self._unavailable.get(kind) or f"no sensor for {name} on {self.node}"

    def _check(self, lease_id: str) -> None:
        if lease_id not in self._accounts:
            raise ValueError(f"`lease_id` must be one that `open` of this meter returned, got {lease_id!r}.")

    def _end(self, lease_id: str, closed_by: ClosedBy) -> None:
        """Stop charging a lease; one that ended before stays as it is."""
        if self._open.pop(lease_id, None) is not None:
            self._accounts[lease_id].closed_by = closed_by
            self._accounts[lease_id].ended_s = self._duration_s
