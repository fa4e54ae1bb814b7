import pickle

import pytest
import torch
from torch import nn

from nasray.hardware import latency as latency_module
from nasray.hardware.latency import MeasuredLatency, measure_latency
from nasray.hardware.timing import time_runs, torch_threads
from nasray.spaces.mobile_networks import mobile_space

CPU = torch.device("cpu")


def test_time_runs_takes_at_least_the_repeats_and_loops_short_runs() -> None:
    calls = []
    timing = time_runs(lambda: calls.append(None), device=CPU, budget_s=0.0, min_repeats=4)
    assert timing.repeats == 4
    assert timing.median_ms > 0
    assert timing.spread_ms >= 0
    assert len(calls) > 100 * timing.repeats


def test_time_runs_spends_its_budget() -> None:
    assert time_runs(lambda: None, device=CPU, budget_s=0.02, min_repeats=1).repeats > 1


def test_torch_threads_are_put_back_even_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with torch_threads(before + 1):
            raise KeyError(torch.get_num_threads())

    with pytest.raises(KeyError, match=str(before + 1)):
        fail()
    assert torch.get_num_threads() == before


def test_torch_threads_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`threads` must be at least 1, got 0"), torch_threads(0):
        pass


def test_measure_latency_leaves_the_module_and_the_generator_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before, mean = torch.get_rng_state(), module[1].running_mean.clone()
    latency = measure_latency(module, (2, 3, 8, 8), budget_s=0.0, warmup_s=0.0, min_repeats=3)
    assert module.training
    assert torch.equal(module[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), before)
    assert (latency.batch_size, latency.repeats, latency.device.threads) == (2, 3, 1)


def test_measured_latency_times_each_architecture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def counted(module, shape, **settings):
        shapes.append(shape)
        return measure_latency(module, shape, **settings)

    monkeypatch.setattr(latency_module, "measure_latency", counted)
    space = mobile_space("mobile-8", num_classes=10)
    cost = MeasuredLatency(space, batch_size=2, budget_s=0.0)
    before = torch.get_rng_state()
    first = cost(space.largest())
    assert cost(space.largest()) is first
    assert shapes == [(2, 3, 8, 8)]
    assert (first.unit, first.quality) == ("ms", "measured")
    assert first.spread is not None
    assert "1 thread" in first.source
    assert "batch size 2" in first.source
    assert torch.equal(torch.get_rng_state(), before)
    assert pickle.loads(pickle.dumps(cost))(space.largest()) == first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_measure_latency_on_a_gpu() -> None:
    latency = measure_latency(nn.Conv2d(3, 4, 3), (2, 3, 8, 8), device="cuda", budget_s=0.0)
    assert latency.median_ms > 0
    assert (latency.device.kind, latency.device.threads) == ("cuda", None)
