"""What the meter does beside dividing: wraps, faults, processes that go, quality, calibration."""

import json
import math

import pytest

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.lease import Lease
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.sensors import Activity

GPU = "gpu:GPU-a"


class Node:
    def __init__(self, *sensors, unavailable=None):
        self.clock, self.processes = FakeClock(), FakeProcesses()
        self.sensors = {sensor.domain: sensor for sensor in sensors}
        self.meter = NodeMeter(
            sensors, node="node-1", processes=self.processes, clock=self.clock, unavailable=unavailable, meter_id="m"
        )

    def lease(self, pid, **reserved):
        if pid not in self.processes.table:
            self.processes.start(pid)
        return Lease(owner=f"trial-{pid}", stage="search", pid=pid, process_created_s=0.0, **reserved)

    def spend(self, seconds=1.0, **energies_j):
        self.clock.sleep(seconds)
        for name, energy_j in energies_j.items():
            self.sensors[GPU if name == "gpu" else name].spend(energy_j)


def test_three_wraps_within_a_lease_are_undone():
    range_j = 262_143.328850
    node = Node(FakeSensor(domain="cpu", wrap_j=range_j, value_j=range_j - 5, max_power_w=1500.0))
    key = node.meter.open(node.lease(1, cpus=8.0))
    for _ in range(3100):
        node.spend(cpu=300.0)
        node.processes.work(1, 8.0)
        node.meter.tick()
    assert 3 * range_j < 3100 * 300.0
    assert node.meter.close(key).domains["cpu"].energy_j == pytest.approx(3100 * 300.0, rel=1e-6)


def test_a_reset_is_lost_time_and_no_energy():
    node = Node(FakeSensor(domain=GPU, idle_power_w=10.0, value_j=5e6))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    node.meter.tick()
    node.clock.sleep(2.0)
    node.sensors[GPU].value_j = 3.0
    node.meter.tick()
    node.spend(gpu=50.0)
    energy = node.meter.close(key).domains[GPU]
    assert energy.energy_j == pytest.approx(150.0)
    assert energy.missing_s == pytest.approx(2.0)
    assert energy.quality == "attributed"


def test_a_counter_that_fails_for_a_while_loses_nothing():
    node = Node(FakeSensor(domain=GPU, idle_power_w=10.0))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    node.sensors[GPU].failure = "GPU is lost"
    node.meter.tick()
    during = node.meter.energy(key).domains[GPU]
    assert (during.energy_j, during.quality, during.missing_s) == (None, "unavailable", pytest.approx(1.0))
    assert "GPU is lost" in during.source
    node.sensors[GPU].failure = None
    node.spend(gpu=20.0)
    after = node.meter.close(key).domains[GPU]
    assert (after.energy_j, after.missing_s) == (pytest.approx(120.0), 0.0)


def test_a_gpu_that_disappears_leaves_what_was_counted_and_says_what_is_missing():
    node = Node(FakeSensor(domain=GPU, idle_power_w=10.0))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    node.meter.tick()
    node.sensors[GPU].failure = "GPU is lost"
    node.clock.sleep(30.0)
    energy = node.meter.close(key)
    assert energy.domains[GPU].energy_j == pytest.approx(100.0)
    assert energy.missing_s == pytest.approx(30.0)
    assert node.meter.snapshot()["domains"][GPU]["missing_s"] == pytest.approx(30.0)


def test_processes_that_cannot_be_seen_for_a_while_cost_nothing_but_that_time(monkeypatch):
    node = Node(FakeSensor(domain="cpu", idle_power_w=10.0), FakeSensor(domain=GPU, idle_power_w=10.0))
    keys = [node.meter.open(node.lease(pid, cpus=2.0)) for pid in (1, 2)]
    node.spend(cpu=30.0, gpu=20.0)
    node.processes.work(1, 1.0)
    node.meter.tick()
    for name in ("scan", "node_busy_s"):
        before = node.meter.energy(keys[0]).domains["cpu"].energy_j

        def fail(*arguments):
            raise FileNotFoundError("/proc/1/stat")

        monkeypatch.setattr(node.processes, name, fail)
        node.spend(cpu=30.0, gpu=20.0)
        node.processes.work(2, 1.0)
        node.meter.tick()
        during, snapshot = node.meter.energy(keys[0]).domains["cpu"], node.meter.snapshot()
        assert (during.energy_j, during.missing_s) == (before, pytest.approx(1.0))
        assert "FileNotFoundError: /proc/1/stat" in during.source
        assert [snapshot["domains"][key]["missing_s"] for key in ("cpu", GPU)] == pytest.approx([1.0, 1.0])
        monkeypatch.undo()
        node.meter.tick()
    # The second process alone worked meanwhile, each held a quarter of the domain at rest.
    first, second = (node.meter.close(key).domains["cpu"] for key in keys)
    assert first.energy_j == pytest.approx(20.0 + 3 * 10.0 / 4)
    assert second.energy_j == pytest.approx(2 * 20.0 + 3 * 10.0 / 4)
    domain = node.meter.snapshot()["domains"]["cpu"]
    assert domain["missing_s"] == 0 and "FileNotFoundError" not in domain["source"]
    assert math.fsum(domain[part] for part in ("trials_j", "other_j", "idle_j")) == pytest.approx(90.0, rel=1e-12)


def test_a_lease_of_a_dead_process_is_closed_although_processes_cannot_be_seen(monkeypatch):
    node = Node(FakeSensor(domain="cpu"))
    key = node.meter.open(node.lease(1))

    def fail(roots):
        raise FileNotFoundError("/proc/1/stat")

    monkeypatch.setattr(node.processes, "scan", fail)
    node.processes.end(1)
    node.meter.tick()
    assert node.meter.energy(key).closed_by == "process gone"
    with pytest.raises(FileNotFoundError, match="/proc/1/stat"):
        node.meter.open(node.lease(2))
    assert len(node.meter.snapshot()["leases"]) == 1  # none is charged that nobody has


def test_a_sensor_with_an_error_of_its_own_keeps_no_other_from_being_read(monkeypatch):
    gpu = FakeSensor(domain=GPU)
    node = Node(gpu, FakeSensor(domain="cpu"))

    def fail():
        raise RuntimeError("driver changed")

    monkeypatch.setattr(gpu, "read_j", fail)
    node.spend(cpu=30.0)
    domains = node.meter.snapshot()["domains"]
    assert domains["cpu"]["node_j"] == pytest.approx(30.0)
    assert domains[GPU]["missing_s"] == pytest.approx(1.0) and "RuntimeError: driver changed" in domains[GPU]["source"]


def test_a_sensor_that_never_answers_is_unknown_not_zero():
    node = Node(FakeSensor(domain="cpu", failure="no permission"))
    energy = node.meter.close(node.meter.open(node.lease(1)))
    assert energy.energy_j is None
    assert energy.domains["cpu"].quality == "unavailable"


def test_a_clock_that_steps_back_counts_as_no_time():
    node = Node(FakeSensor(domain="cpu", idle_power_w=10.0, max_power_w=1000.0))
    key = node.meter.open(node.lease(1, cpus=8.0))
    node.spend(cpu=50.0)
    node.processes.work(1, 1.0)
    node.meter.tick()
    node.clock.now_s -= 1000.0
    node.sensors["cpu"].spend(30.0)
    node.processes.work(1, 1.0)
    energy = node.meter.close(key)
    snapshot = node.meter.snapshot()
    assert energy.duration_s == 1.0
    assert snapshot["clock_steps_back"] == 1
    assert snapshot["domains"]["cpu"]["node_j"] == 80.0
    assert energy.domains["cpu"].energy_j == pytest.approx(80.0)


def test_a_lease_closes_itself_when_its_process_is_gone_and_keeps_its_energy():
    node = Node(FakeSensor(domain=GPU, idle_power_w=0.0))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    node.processes.end(1)
    node.meter.tick()
    node.spend(gpu=40.0)
    energy = node.meter.close(key)
    assert energy.closed_by == "process gone"
    assert energy.domains[GPU].energy_j == pytest.approx(100.0)
    assert node.meter.snapshot()["domains"][GPU]["other_j"] == pytest.approx(40.0)


def test_a_reused_pid_is_not_the_process_of_the_lease():
    node = Node(FakeSensor(domain="cpu"))
    key = node.meter.open(node.lease(1))
    node.processes.end(1)
    node.processes.start(1, created_s=50.0)
    node.meter.tick()
    assert node.meter.energy(key).closed_by == "process gone"


def test_closing_twice_returns_the_same_and_an_unknown_lease_is_refused():
    node = Node(FakeSensor(domain="cpu"))
    key = node.meter.open(node.lease(1))
    node.spend(cpu=3.0)
    assert node.meter.close(key) == node.meter.close(key)
    with pytest.raises(ValueError, match="`lease_id` must be one"):
        node.meter.energy("other")


def test_a_worker_that_holds_a_lease_is_not_charged_to_the_driver_above_it():
    node = Node(FakeSensor(domain="cpu", idle_power_w=0.0))
    node.processes.start(1)
    node.processes.start(2, parent=1)
    driver, worker = node.meter.open(node.lease(1)), node.meter.open(node.lease(2))
    node.spend(cpu=100.0)
    node.processes.work(1, 1.0)
    node.processes.work(2, 3.0)
    assert node.meter.close(worker).domains["cpu"].energy_j == pytest.approx(75.0)
    assert node.meter.close(driver).domains["cpu"].energy_j == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("fraction", "seen", "quality"),
    [
        (1.0, Activity(sm_shares={1: 50}, pids=frozenset({1})), "measured"),
        (1.0, Activity(sm_shares=None, pids=frozenset({1})), "measured"),
        (0.5, Activity(sm_shares={1: 50}, pids=frozenset({1})), "attributed"),
        (1.0, Activity(sm_shares={1: 50, 9: 1}, pids=frozenset({1, 9})), "attributed"),
        (1.0, Activity(sm_shares=None, pids=frozenset({1, 9})), "attributed"),
        (1.0, Activity(sm_shares={1: 50}, pids=None), "attributed"),
        # Nobody is seen, not even the lease: in a container the driver may be silent about everyone.
        (1.0, Activity(sm_shares={}, pids=frozenset()), "attributed"),
    ],
)
def test_only_a_gpu_held_alone_is_measured(fraction, seen, quality):
    node = Node(FakeSensor(domain=GPU, idle_power_w=10.0, seen=seen))
    node.processes.start(9)
    key = node.meter.open(node.lease(1, gpus={"GPU-a": fraction}))
    node.spend(gpu=100.0)
    assert node.meter.close(key).domains[GPU].quality == quality


def test_a_second_lease_for_a_moment_ends_exclusivity_for_good():
    alone = Activity(sm_shares={1: 50}, pids=frozenset({1}))
    node = Node(FakeSensor(domain=GPU, idle_power_w=10.0, seen=alone))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    assert node.meter.energy(key).domains[GPU].quality == "measured"
    other = node.meter.open(node.lease(2, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    node.meter.close(other)
    node.spend(gpu=100.0)
    assert node.meter.close(key).domains[GPU].quality == "attributed"


def test_process_ids_of_another_namespace_are_not_taken_for_strangers():
    seen = Activity(sm_shares={4_000_001: 90}, pids=frozenset({4_000_001}))
    node = Node(FakeSensor(domain=GPU, idle_power_w=0.0, seen=seen))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    energy = node.meter.close(key).domains[GPU]
    assert (energy.energy_j, energy.quality) == (pytest.approx(100.0), "attributed")


def test_a_model_is_never_better_than_estimated():
    seen = Activity(sm_shares={1: 50}, pids=frozenset({1}))
    node = Node(FakeSensor(domain=GPU, kind="model", seen=seen))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 1.0}))
    node.spend(gpu=100.0)
    assert node.meter.close(key).domains[GPU].quality == "estimated"
    assert node.meter.snapshot()["domains"][GPU]["quality"] == "estimated"


def test_domains_without_a_sensor_say_why():
    node = Node(unavailable={"gpu": "no NVML", "cpu": "no TDP"})
    energy = node.meter.close(node.meter.open(node.lease(1, gpus={"GPU-a": 1.0})))
    assert {name: domain.energy_j for name, domain in energy.domains.items()} == {"cpu": None, "ram": None, GPU: None}
    assert energy.domains[GPU].source == "no NVML"
    assert energy.quality == "unavailable"
    assert node.meter.snapshot()["domains"]["cpu"]["node_j"] is None


def test_calibration_takes_the_quietest_window_and_its_energy_counts_as_idle():
    node = Node(FakeSensor(domain=GPU), FakeSensor(domain="cpu", idle_power_w=7.0))
    powers_w = iter([80.0, 60.0, 90.0])

    def sleep(seconds):
        node.spend(seconds, gpu=next(powers_w) * seconds, cpu=7.0 * seconds)

    assert node.meter.calibrate(num_windows=3, window_s=2.0, sleep=sleep) == {GPU: 60.0, "cpu": 7.0}
    domain = node.meter.snapshot()["domains"][GPU]
    assert (domain["idle_j"], domain["other_j"]) == (pytest.approx(360.0), pytest.approx(100.0))
    key = node.meter.open(node.lease(1, gpus={"GPU-a": 0.5}))
    node.spend(gpu=100.0)
    assert node.meter.close(key).domains[GPU].energy_j == pytest.approx(40.0 + 30.0)


def test_calibration_is_refused_while_a_lease_is_open():
    node = Node(FakeSensor(domain="cpu"))
    node.meter.open(node.lease(1))
    with pytest.raises(ValueError, match="`calibrate` must run while no lease is open"):
        node.meter.calibrate(sleep=node.clock.sleep)


def test_snapshots_are_json_and_count_up():
    node = Node(FakeSensor(domain="cpu"), unavailable={"gpu": "none"})
    node.meter.open(node.lease(1))
    first, second = node.meter.snapshot(), node.meter.snapshot()
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert (first["sequence"], second["sequence"]) == (1, 2)


def test_a_faster_rise_than_the_device_can_is_a_reset():
    node = Node(FakeSensor(domain="cpu", wrap_j=1e6, value_j=1000.0, max_power_w=500.0))
    node.meter.open(node.lease(1))
    node.clock.sleep(1.0)
    node.sensors["cpu"].value_j = 0.0
    node.meter.tick()
    domain = node.meter.snapshot()["domains"]["cpu"]
    assert (domain["node_j"], domain["missing_s"]) == (0.0, pytest.approx(1.0))


def test_a_pause_in_which_a_counter_may_have_wrapped_unseen_is_flagged():
    node = Node(FakeSensor(domain="cpu", wrap_j=1000.0, max_power_w=500.0))
    key = node.meter.open(node.lease(1, cpus=8.0))
    node.spend(seconds=60.0, cpu=900.0)
    assert node.meter.close(key).domains["cpu"].missing_s == pytest.approx(60.0)
    assert math.isclose(node.meter.snapshot()["domains"]["cpu"]["node_j"], 900.0)
