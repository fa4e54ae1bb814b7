"""RAPL from a made-up powercap tree, NVML from a made-up module, and the models."""

import os
from types import SimpleNamespace

import pytest

from nasray.carbon.fake import FakeClock
from nasray.carbon.modelled import ModelledCpu, ModelledRam
from nasray.carbon.nvml import NvmlGpu, NvmlPolledGpu, find_gpus
from nasray.carbon.rapl import find_zones
from nasray.carbon.sensors import SensorError, find_sensors, gpu_uuids


def zone(folder, name, energy_uj, range_uj=262_143_328_850):
    folder.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
        (folder / file).write_text(f"{value}\n")


@pytest.fixture
def powercap(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path / "intel-rapl:0:0", "core", 1_000_000)
    zone(tmp_path / "intel-rapl:0:1", "dram", 2_000_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 700_000_000)
    zone(tmp_path / "intel-rapl:1:0", "dram", 30_000_000)
    zone(tmp_path / "intel-rapl:2", "psys", 900_000_000)
    zone(tmp_path / "intel-rapl-mmio:0", "package-0", 5_100_000)
    return tmp_path


def test_rapl_reads_packages_once_and_memory_apart(powercap):
    packages = find_zones(powercap, "cpu")
    assert [(sensor.source, sensor.read_j()) for sensor in packages] == [
        ("RAPL package-0", 5.0),
        ("RAPL package-1", 700.0),
    ]
    assert packages[0].wrap_j == pytest.approx(262_143.328850)
    assert [sensor.read_j() for sensor in find_zones(powercap, "ram")] == [2.0, 30.0]


def test_rapl_without_memory_of_every_package_has_none(powercap):
    (powercap / "intel-rapl:1:0" / "name").write_text("uncore\n")
    with pytest.raises(SensorError, match="no memory for package-1"):
        find_zones(powercap, "ram")


def test_rapl_dies_that_repeat_their_package_are_left_out(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0-die-0", 5_000_000)
    zone(tmp_path / "intel-rapl:1", "package-0-die-1", 5_000_900)
    zone(tmp_path / "intel-rapl:2", "package-1-die-0", 5_000_000)
    zone(tmp_path / "intel-rapl:3", "package-1-die-1", 90_000_000)
    assert [sensor.name for sensor in find_zones(tmp_path, "cpu")] == [
        "package-0-die-0",
        "package-1-die-0",
        "package-1-die-1",
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_rapl_for_root_alone_says_so(powercap):
    (powercap / "intel-rapl:1" / "energy_uj").chmod(0)
    with pytest.raises(SensorError, match="may only be read by root"):
        find_zones(powercap, "cpu")


def test_rapl_that_cannot_be_read_gives_way_to_the_model(powercap):
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    found = find_sensors(powercap=powercap, nvml=FakeNvml({}))
    assert {sensor.domain: sensor.kind for sensor in found.sensors} == {"cpu": "model", "ram": "counter"}
    assert "energy_uj cannot be read" in next(sensor.source for sensor in found.sensors if sensor.domain == "cpu")
    assert found.unavailable == {"gpu": "no NVIDIA GPU"}


class FakeNvml:
    """As much of pynvml as is used; GPUs are dicts by UUID."""

    NVML_ERROR_NOT_FOUND = 6

    class NVMLError(Exception):
        def __init__(self, value):
            super().__init__(f"NVML error {value}")
            self.value = value

    def __init__(self, gpus):
        self.gpus, self.num_inits = gpus, 0

    def nvmlInit(self):
        self.num_inits += 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return list(self.gpus)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid if uuid in self.gpus else self._fail(28)

    def nvmlDeviceGetUUID(self, handle):
        return handle.encode()

    def nvmlDeviceGetName(self, handle):
        return "H200"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._value(handle, "mj")

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._value(handle, "mw")

    def nvmlDeviceGetProcessUtilization(self, handle, since_us):
        return self._value(handle, "samples")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid) for pid in self._value(handle, "pids")]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return []

    def _value(self, handle, name):
        value = self.gpus.get(handle, {}).get(name, 3)
        return (
            self._fail(value.value) if isinstance(value, Failure) else value if handle in self.gpus else self._fail(15)
        )

    def _fail(self, code):
        raise self.NVMLError(code)


class Failure:
    def __init__(self, value):
        self.value = value


def sample(pid, time_us, sm_use):
    return SimpleNamespace(pid=pid, timeStamp=time_us, smUtil=sm_use)


def test_nvml_reads_the_counter_and_falls_back_to_power():
    nvml = FakeNvml(
        {
            "GPU-a": {"mj": 5_000},
            "GPU-b": {"mj": Failure(3), "mw": 50_000},
            "GPU-c": {"mj": Failure(3), "mw": Failure(3)},
        }
    )
    sensors = find_gpus(nvml)
    assert [(sensor.domain, type(sensor), sensor.kind) for sensor in sensors] == [
        ("gpu:GPU-a", NvmlGpu, "counter"),
        ("gpu:GPU-b", NvmlPolledGpu, "model"),
    ]
    assert sensors[0].read_j() == 5.0


def test_nvml_polling_integrates_power():
    clock, nvml = FakeClock(), FakeNvml({"GPU-b": {"mw": 50_000}})
    sensor = NvmlPolledGpu(nvml, "GPU-b", clock=clock)
    first_j = sensor.read_j()
    clock.sleep(2.0)
    nvml.gpus["GPU-b"]["mw"] = 150_000
    assert sensor.read_j() - first_j == pytest.approx(200.0)


def test_nvml_adds_samples_and_drops_what_cannot_be():
    samples = [sample(1, 10, 40), sample(1, 20, 60), sample(2, 20, 5), sample(0, 20, 9), sample(3, 20, 4_000_000)]
    gpu = {"mj": 1, "samples": samples, "pids": [1, 2]}
    sensor = NvmlGpu(FakeNvml({"GPU-a": gpu}), "GPU-a")
    assert sensor.activity().sm_shares == {1: 100, 2: 5}
    assert sensor.activity().sm_shares == {}
    assert sensor.activity().pids == {1, 2}


@pytest.mark.parametrize(("code", "shares"), [(6, {}), (3, None)])
def test_nvml_tells_no_use_from_not_knowing(code, shares):
    gpu = {"mj": 1, "samples": Failure(code), "pids": Failure(3)}
    activity = NvmlGpu(FakeNvml({"GPU-a": gpu}), "GPU-a").activity()
    assert (activity.sm_shares, activity.pids) == (shares, None)


def test_nvml_survives_a_gpu_that_goes_and_comes_back():
    nvml = FakeNvml({"GPU-a": {"mj": 9_000}})
    sensor = NvmlGpu(nvml, "GPU-a")
    gpu = nvml.gpus.pop("GPU-a")
    with pytest.raises(SensorError, match="GPU GPU-a is gone"):
        sensor.read_j()
    nvml.gpus["GPU-a"] = gpu
    assert sensor.read_j() == 9.0


def test_ids_of_ray_become_uuids_and_unknown_ones_stay():
    nvml = FakeNvml({"GPU-a": {}, "GPU-b": {}})
    assert gpu_uuids({"1": 0.5, "GPU-a": 1.0, "7": 1.0}, nvml=nvml) == {"GPU-b": 0.5, "GPU-a": 1.0, "index-7": 1.0}


def test_modelled_cpu_is_load_times_tdp_above_a_tenth():
    clock, times = FakeClock(), [0.0, 0.0]
    sensor = ModelledCpu(tdp_w=100.0, source="s", cpu_times=lambda: tuple(times), clock=clock)
    sensor.read_j()
    for busy_s, total_s, expected_j in ((0.0, 80.0, 100.0), (40.0, 80.0, 500.0), (80.0, 80.0, 1000.0)):
        before_j = sensor.read_j()
        times[0] += busy_s
        times[1] += total_s
        clock.sleep(10.0)
        assert sensor.read_j() - before_j == pytest.approx(expected_j)
    clock.sleep(-5.0)
    assert sensor.read_j() >= 1600.0


def test_modelled_ram_is_constant_power():
    clock = FakeClock()
    sensor = ModelledRam(power_w=20.0, source="s", clock=clock)
    before_j = sensor.read_j()
    clock.sleep(3.0)
    assert sensor.read_j() - before_j == pytest.approx(60.0)
