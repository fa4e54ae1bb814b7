"""CPU time of process trees, on paper and with real processes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from nasray.carbon.fake import FakeProcesses, FakeSensor
from nasray.carbon.lease import Lease
from nasray.carbon.node_meter import NodeMeter
from nasray.carbon.process_trees import ProcessTrees
from nasray.carbon.processes import MachineProcesses


@pytest.fixture
def family():
    processes = FakeProcesses()
    processes.start(1)
    processes.start(2, parent=1)
    trees = ProcessTrees()
    trees.adopt(processes.table)
    return processes, trees


def test_children_are_charged_while_they_run(family):
    processes, trees = family
    processes.work(1, 1.0)
    processes.work(2, 2.0)
    assert trees.advance(processes.scan([]), [1]) == {1: 3.0}


def test_a_child_that_ends_between_scans_is_neither_lost_nor_counted_twice(family):
    processes, trees = family
    processes.work(2, 2.0)
    trees.advance(processes.scan([]), [1])
    processes.work(2, 0.5)
    processes.end(2)
    assert trees.advance(processes.scan([]), [1]) == {1: 0.5}


def test_a_child_that_lives_only_between_two_scans_is_charged(family):
    processes, trees = family
    processes.start(3, parent=2)
    processes.work(3, 4.0)
    processes.end(3)
    assert trees.advance(processes.scan([]), [1]) == {1: 4.0}


def test_a_new_process_is_charged_with_its_children_that_ended_already(family):
    processes, trees = family
    processes.start(3, parent=1)
    processes.start(4, parent=3)
    processes.work(4, 4.0)
    processes.end(4)
    processes.work(3, 0.5)
    assert trees.advance(processes.scan([]), [1]) == {1: 4.5}
    assert trees.advance(processes.scan([]), [1]) == {1: 0.0}


def test_a_new_process_that_takes_the_number_of_an_old_one_is_charged_with_its_children(family):
    processes, trees = family
    processes.work(2, 5.0)
    trees.advance(processes.scan([]), [1])
    processes.end(2)
    processes.start(2, parent=1, created_s=9.0)
    processes.start(3, parent=2)
    processes.work(3, 4.0)
    processes.end(3)
    assert trees.advance(processes.scan([]), [1]) == {1: 4.0}


def test_a_whole_branch_that_ends_is_charged_once(family):
    processes, trees = family
    processes.start(3, parent=2)
    processes.work(3, 4.0)
    trees.advance(processes.scan([]), [1])
    processes.work(3, 1.0)
    processes.work(2, 1.0)
    processes.end(3)
    processes.end(2)
    assert trees.advance(processes.scan([]), [1])[1] == pytest.approx(2.0)


def test_a_child_that_nobody_waits_for_does_not_make_time_negative(family):
    processes, trees = family
    processes.work(2, 5.0)
    trees.advance(processes.scan([]), [1])
    processes.end(2, is_reaped=False)
    processes.work(1, 1.0)
    assert trees.advance(processes.scan([]), [1]) == {1: 1.0}


def test_a_reused_pid_starts_from_zero(family):
    processes, trees = family
    processes.work(2, 5.0)
    trees.advance(processes.scan([]), [1])
    processes.end(2)
    processes.start(2, parent=1, created_s=9.0)
    processes.work(2, 0.25)
    assert trees.advance(processes.scan([]), [1]) == {1: 0.25}


def test_an_inner_root_takes_its_own_branch(family):
    processes, trees = family
    processes.work(1, 1.0)
    processes.work(2, 2.0)
    assert trees.advance(processes.scan([]), [1, 2]) == {1: 1.0, 2: 2.0}


def test_the_end_of_an_inner_root_does_not_charge_its_past_to_the_outer_one(family):
    processes, trees = family
    processes.work(2, 50.0)
    trees.advance(processes.scan([]), [1, 2])
    processes.end(2)
    assert trees.advance(processes.scan([]), [1, 2]) == {1: 0.0, 2: 0.0}


def test_real_children_that_end_between_scans_are_counted():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    table, trees, me = MachineProcesses(), ProcessTrees(), os.getpid()
    before = sum(os.times()[:4])
    trees.adopt(table.scan([me]))
    start = sum(os.times()[:4])
    for _ in range(2):
        subprocess.run([sys.executable, "-c", burn], check=True)
    end = sum(os.times()[:4])
    counted = trees.advance(table.scan([me]), [me])[me]
    after = sum(os.times()[:4])
    assert end - start > 0.5
    # Scans take time of their own, and other threads may work meanwhile. Each of the four times in the sums is in
    # hundredths of a second.
    assert end - start - 0.08 <= counted <= after - before + 0.08


def test_real_processes_are_told_apart_by_their_creation_time():
    me = psutil.Process()
    table = MachineProcesses()
    assert table.is_alive(me.pid, me.create_time())
    assert not table.is_alive(me.pid, me.create_time() - 100)


def test_an_orphan_stays_with_its_nearest_living_ancestor():
    start = "subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)"
    script = f"import subprocess, sys\nprint({start}.pid, flush=True)\nsys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    orphan = int(child.stdout.readline())
    try:
        table = MachineProcesses()
        assert orphan in table.scan([os.getpid()])
        child.communicate()
        assert orphan in table.scan([os.getpid()])
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_killed_process_closes_its_lease_within_two_ticks_and_keeps_its_energy():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sensor = FakeSensor(domain="cpu", idle_power_w=0.0)
    meter = NodeMeter([sensor], node="n")
    created_s = psutil.Process(child.pid).create_time()
    key = meter.open(Lease(owner="t", stage="s", pid=child.pid, process_created_s=created_s, cpus=1.0))
    time.sleep(0.3)
    sensor.spend(100.0)
    meter.tick()
    before = meter.energy(key)
    assert before.closed_by is None
    assert before.domains["cpu"].energy_j > 0
    child.send_signal(signal.SIGKILL)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    for _ in range(2):
        meter.tick()
    child.wait()
    sensor.spend(100.0)
    after = meter.close(key)
    assert after.closed_by == "process gone"
    assert after.domains["cpu"].energy_j >= before.domains["cpu"].energy_j
    assert after.domains["cpu"].energy_j <= 100.0
