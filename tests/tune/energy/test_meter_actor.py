"""The thread of a host's meter, whatever a reading meets."""

import logging
import time

import pytest

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.lease import Lease
from nasray.carbon.node_meter import NodeMeter
from nasray.tune.energy import meter_actor
from nasray.tune.energy.meter_actor import MeterActor


@pytest.fixture
def processes(monkeypatch):
    """Processes of a machine whose meter ticks a hundred times a second."""
    processes = FakeProcesses()
    processes.start(1)
    sensor = FakeSensor(domain="cpu", idle_power_w=1.0)
    meter = NodeMeter([sensor], node="host", processes=processes, clock=FakeClock())
    monkeypatch.setattr(NodeMeter, "of_this_machine", lambda node: meter)
    monkeypatch.setattr(meter_actor, "_TICK_S", 0.01)
    return processes


@pytest.mark.parametrize("broken", ["scan", "is_alive"])
def test_a_meter_ticks_on_after_an_error_and_closes_what_ended(processes, monkeypatch, caplog, broken):
    caplog.set_level(logging.WARNING, logger=meter_actor.__name__)
    actor, failures = MeterActor("host", False), []
    lease = actor.open(Lease(owner="trial", stage="search", pid=1, process_created_s=0.0), {}, "node")

    def fail(*arguments):
        failures.append(arguments)
        raise FileNotFoundError("/proc/1/stat")

    with monkeypatch.context() as patch:
        patch.setattr(processes, broken, fail)
        wait_for(lambda: len(failures) > 2)
    processes.end(1)
    wait_for(lambda: actor.energy(lease).closed_by == "process gone")
    actor._is_over.set()
    told = [record for record in caplog.records if "goes on after a reading that failed" in record.message]
    assert len(told) == (broken == "is_alive")  # the other one stands in the figures


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.01)
