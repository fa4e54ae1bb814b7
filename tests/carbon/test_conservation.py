"""Ten thousand random histories of leases, against a second, plain implementation of the rules."""

import itertools
import math
import random

import pytest

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.lease import Lease
from nasray.carbon.ledger import TOLERANCE
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.sensors import Activity

NUM_GPUS, NUM_HISTORIES, STRANGER = 8, 10_000, 999
CORES, MEMORY_BYTES = 16.0, 1000


class History:
    """A random node: what happens is told to the meter's fakes and to the oracle alike."""

    def __init__(self, seed, *, is_faulty):
        self.random = random.Random(seed)
        self.is_faulty = is_faulty
        self.clock = FakeClock()
        self.processes = FakeProcesses(num_cpus=CORES, memory_bytes=MEMORY_BYTES)
        self.processes.start(STRANGER)
        idle_w = self.random.choice([None, 0.0, 5.0, 30.0])
        self.sensors = [
            FakeSensor(domain=f"gpu:G{index}", idle_power_w=idle_w, wrap_j=self.random.choice([None, 400.0]))
            for index in range(self.random.choice([1, 2, NUM_GPUS]))
        ]
        self.sensors.append(FakeSensor(domain="cpu", idle_power_w=idle_w, wrap_j=500.0))
        self.sensors.append(FakeSensor(domain="ram", idle_power_w=None))
        self.idle_w = idle_w
        self.meter = NodeMeter(self.sensors, node="n", processes=self.processes, clock=self.clock)
        self.open = {}
        self.pids = itertools.count(100)
        self.spent = {sensor.domain: 0.0 for sensor in self.sensors}
        self.oracle = {}

    def open_lease(self):
        gpus = {
            sensor.domain.removeprefix("gpu:"): self.random.choice([0.25, 0.5, 1.0])
            for sensor in self.random.sample(self.sensors[:-2], k=self.random.randint(0, min(2, len(self.sensors) - 2)))
        }
        pid = self.random.choice(list(self.open.values())).pid if self.open and self.random.random() < 0.1 else None
        if pid is None:
            pid = next(self.pids)
            self.processes.start(pid, parent=self.random.choice([1, STRANGER]))
            self.processes.work(pid, 7.0)  # before the lease, so that nobody pays
            self.processes.busy_s -= 7.0
        lease = Lease(
            owner=f"t{pid}",
            stage="search",
            pid=pid,
            process_created_s=0.0,
            cpus=self.random.choice([0.0, 1.0, 4.0, 10.0]),
            gpus=gpus,
            memory_bytes=self.random.choice([None, 0, 100, 700]),
        )
        self.open[self.meter.open(lease)] = lease

    def pass_time(self):
        seconds = self.random.choice([0.01, 1.0, 10.0])
        self.clock.sleep(seconds)
        # What ran before the lease was opened was read then; now everything of this interval happens.
        used = {pid: self.random.choice([0.0, 0.5, 3.0]) for pid in {lease.pid for lease in self.open.values()}}
        stranger_s = self.random.choice([0.0, 1.0])
        for pid, cpu_s in [*used.items(), (STRANGER, stranger_s)]:
            self.processes.work(pid, cpu_s)
        for sensor in self.sensors:
            energy_j = self.random.choice([0.0, 1e-3, 20.0, 390.0]) * self.random.random()
            sensor.spend(energy_j)
            self.spent[sensor.domain] += energy_j
            shares = None
            if sensor.domain.startswith("gpu"):
                busy = self.random.sample([*used, STRANGER], k=self.random.randint(0, len(used) + 1))
                shares = self.random.choice([None, {pid: self.random.choice([0, 10, 60]) for pid in busy}])
                sensor.seen = Activity(sm_shares=shares, pids=None)
            for name, part in self.divide(sensor.domain, energy_j, seconds, used, stranger_s, shares).items():
                key = (sensor.domain, name)
                self.oracle[key] = self.oracle.get(key, 0.0) + part

    def divide(self, domain, energy_j, seconds, used, stranger_s, shares):
        """Return the parts of one domain in one interval, by the rules as they are written down."""
        idle_j = energy_j if domain == "ram" else min(energy_j, (self.idle_w or 0.0) * seconds)
        active_j = energy_j - idle_j
        on_pid = {pid: [key for key, lease in self.open.items() if lease.pid == pid] for pid in used}
        reserved = {key: self.reserved(domain, lease) for key, lease in self.open.items()}
        if domain == "cpu":
            use = [(key, used[pid] / len(keys)) for pid, keys in on_pid.items() for key in keys]
            use.append(("other", stranger_s))
        elif domain == "ram":
            use = []
        else:
            use = [
                (key, share / max(len(on_pid.get(pid, [])), 1))
                for pid, share in (shares or {}).items()
                for key in on_pid.get(pid, ["other"])
            ]
            if not sum(share for _, share in use):
                use = list(reserved.items())
        parts = {"other": 0.0, "idle": 0.0, **dict.fromkeys(self.open, 0.0)}
        total = sum(share for _, share in use)
        for key, share in use:
            parts[key] += active_j * share / total if total else 0.0
        parts["other"] += 0.0 if total else active_j
        booked = max(1.0, sum(reserved.values()))
        for key, fraction in reserved.items():
            parts[key] += idle_j * fraction / booked
        parts["idle"] += idle_j * (1 - sum(reserved.values()) / booked)
        return parts

    @staticmethod
    def reserved(domain, lease):
        if domain == "cpu" or (domain == "ram" and lease.memory_bytes is None):
            return lease.cpus / CORES
        if domain == "ram":
            return lease.memory_bytes / MEMORY_BYTES
        return lease.gpus.get(domain.removeprefix("gpu:"), 0.0)

    def break_something(self):
        sensor = self.random.choice(self.sensors)
        fault = self.random.choice(["fails", "works", "resets", "clock"])
        if fault == "resets":
            sensor.value_j = 0.0
        elif fault == "clock":
            self.clock.now_s -= 100.0
        else:
            sensor.failure = "broken" if fault == "fails" else None

    def run(self):
        for _ in range(self.random.randint(3, 8)):
            self.pass_time()
            if self.is_faulty:
                self.break_something()
            action = self.random.choice(["open", "open", "close", "die", "tick", "read"])
            key = self.random.choice(list(self.open)) if self.open else None
            if action == "open" or key is None:
                self.open_lease()
            elif action == "close":
                self.meter.close(key)
                del self.open[key]
            elif action == "die":
                self.meter.tick()  # what a process used after the last tick of its life, nobody knows
                self.processes.table.pop(self.open[key].pid)
                pid = self.open[key].pid
                self.meter.tick()
                self.open = {other: lease for other, lease in self.open.items() if lease.pid != pid}
            elif action == "tick":
                self.meter.tick()
            else:
                self.meter.energy(key)
        return self.meter.snapshot()


def assert_adds_up(snapshot):
    for name, domain in snapshot["domains"].items():
        parts = (domain["trials_j"], domain["other_j"], domain["idle_j"])
        assert min(parts) >= 0
        assert math.isclose(sum(parts), domain["node_j"], rel_tol=TOLERANCE, abs_tol=0.0)
        leases = [
            lease["energy"]["domains"].get(name, {}).get("energy_j") or 0.0 for lease in snapshot["leases"].values()
        ]
        assert min(leases, default=0.0) >= 0
        assert math.isclose(sum(leases), domain["trials_j"], rel_tol=TOLERANCE, abs_tol=0.0)


@pytest.mark.slow
def test_histories_follow_the_rules_and_add_up():
    for seed in range(NUM_HISTORIES * 9 // 10):
        history = History(seed, is_faulty=False)
        snapshot = history.run()
        assert_adds_up(snapshot)
        for name, domain in snapshot["domains"].items():
            assert domain["node_j"] == pytest.approx(history.spent[name], rel=1e-9, abs=1e-9)
            assert domain["other_j"] == pytest.approx(history.oracle[name, "other"], rel=1e-9, abs=1e-9)
            assert domain["idle_j"] == pytest.approx(history.oracle[name, "idle"], rel=1e-9, abs=1e-9)
            for key, lease in snapshot["leases"].items():
                charged = lease["energy"]["domains"].get(name, {"energy_j": 0.0})["energy_j"]
                assert (charged or 0.0) == pytest.approx(history.oracle.get((name, key), 0.0), rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_histories_with_failing_sensors_add_up():
    for seed in range(NUM_HISTORIES // 10):
        assert_adds_up(History(seed, is_faulty=True).run())
