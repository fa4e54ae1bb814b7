"""Energy per inference, on a device that does as it is told."""

import os

import psutil
import pytest
import torch

from nasray.carbon.fake import FakeClock, FakeProcesses, FakeSensor
from nasray.carbon.node_meter import NodeMeter
from nasray.hardware.inference_energy import energy_windows, measure_inference_energy


class Device:
    """A processor that takes 20 W at rest, and 3 J more for each pass of 0.5 s."""

    def __init__(self, *, extra_w=0.0, idle_power_w=20.0):
        self.clock, self.processes = FakeClock(), FakeProcesses(num_cpus=1.0)
        self.sensor = FakeSensor(domain="cpu", idle_power_w=idle_power_w)
        self.pid, self.extra_w = os.getpid(), extra_w
        self.processes.start(self.pid, created_s=psutil.Process().create_time())
        self.meter = NodeMeter([self.sensor], node="test", processes=self.processes, clock=self.clock)
        self.passes = 0

    def run(self):
        self.clock.sleep(0.5)
        self.passes += 1
        self.sensor.spend(20.0 * 0.5 + 3.0 + self.extra_w * 0.5)
        self.processes.work(self.pid, 0.5)
        self.processes.busy_s += self.extra_w * 0.5 / 10.0

    def module(self):
        device = self

        class Module(torch.nn.Module):
            def forward(self, x):
                device.run()
                return x

            def __deepcopy__(self, memo):
                return self

        return Module()


def measure(device, **options):
    return measure_inference_energy(
        device.module(), (4, 1, 2, 2), warmup_s=1.0, meter=device.meter, clock=device.clock, **options
    )


def test_gross_energy_and_what_is_above_idle() -> None:
    device = Device()
    energy = measure(device)
    assert energy.gross_mj == pytest.approx(1e3 * 13.0 / 4)
    assert energy.above_idle_mj == pytest.approx(1e3 * 3.0 / 4)
    assert energy.power_w == pytest.approx(26.0)
    assert energy.images_per_s == pytest.approx(8.0)
    assert energy.spread == pytest.approx(0.0, abs=1e-9)
    assert not energy.is_shared
    assert device.passes == 2 + 3 * 20  # a second of warm-up, three windows of ten


def test_work_of_others_is_told() -> None:
    energy = measure(Device(extra_w=5.0))
    assert energy.is_shared
    assert energy.quality == "attributed"


def test_without_a_sensor_the_energy_is_unknown_not_zero() -> None:
    device = Device()
    device.meter = NodeMeter(
        [], node="test", processes=device.processes, clock=device.clock, unavailable={"cpu": "no counter"}
    )
    energy = measure(device)
    assert energy.gross_mj is None and energy.above_idle_mj is None and energy.power_w is None
    assert energy.quality == "unavailable"
    assert energy.source == "no counter"
    assert energy.images_per_s > 0


def test_short_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="`window_s` must be at least 10"):
        measure(Device(), window_s=5.0)
    with pytest.raises(ValueError, match="`num_windows` at least 1"):
        measure(Device(), num_windows=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_counter_is_measured() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 3))
    energy = measure_inference_energy(network, (100, 3, 64, 64), device="cuda")
    assert energy.gross_mj > energy.above_idle_mj > 0
    assert energy.spread < 0.03


def test_windows_measure_any_computation() -> None:
    device = Device()
    with energy_windows(meter=device.meter, clock=device.clock) as window_j:
        assert window_j(device.run, 2.0) == pytest.approx(13.0)
        passes = device.passes
        assert window_j(device.run, 0.1) == pytest.approx(13.0)  # one run lasts longer than the window
    assert passes == 1 + 4 and device.passes == passes + 2
