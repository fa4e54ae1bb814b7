"""Two gloo workers against one at the same global batch."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from nasray.data import Batches
from nasray.spaces.mobile_networks import mobile_8
from nasray.training.jobs import Place, to_numpy
from nasray.training.trainer import average_buffers

WORKER = Path(__file__).with_name("data_parallel_worker.py")


@pytest.fixture(scope="module")
def worker():
    """The program of a worker, as a module."""
    spec = importlib.util.spec_from_file_location("data_parallel_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def one(worker):
    """What one worker comes to."""
    return worker.results(Place())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two workers comes to."""
    folder = tmp_path_factory.mktemp("workers")
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[2]), "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen([sys.executable, str(WORKER), str(rank), "2", str(folder)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=480) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.slow
def test_all_workers_end_with_the_same_loss_and_weights(two):
    assert two[0] == two[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["without_batch_norm", "supernet"])
def test_two_workers_make_the_steps_of_one(one, two, name):
    """The supernet's batch norm is over the images of a sub-network, which one worker has all of."""
    assert two[0][name]["losses"] == pytest.approx(one[name]["losses"], rel=1e-5)
    for key, values in one[name]["weights"].items():
        # Workers average running statistics, one worker lets them follow sub-network after sub-network.
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert np.allclose(two[0][name]["weights"][key], values, rtol=0, atol=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network", "masked"])
def test_with_batch_norm_of_each_worker_two_reach_the_loss_of_one(one, two, name):
    """The first losses differ as the statistics of 32 and 64 images do; training ends at the same loss."""
    assert two[0][name]["losses"] != one[name]["losses"]
    assert two[0][name]["losses"][-1] == pytest.approx(one[name]["losses"][-1], rel=0.1)


@pytest.mark.parametrize("world_size", [2, 3])
def test_shards_of_a_step_are_the_batch_of_one_worker(worker, world_size):
    data = worker.images()
    options = {"train": True, "seed": 3, "epoch": 1}
    whole = list(Batches(data.train, data, batch_size=6 * world_size, drop_last=False, **options))
    shards = [
        list(Batches(data.train, data, batch_size=6, drop_last=False, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    for (images, labels), *parts in zip(whole, *shards, strict=True):
        together = sum(len(part) for _, part in parts)
        assert 0 <= len(labels) - together < world_size
        assert torch.equal(torch.cat([part for part, _ in parts]), images[:together])
        assert torch.equal(torch.cat([part for _, part in parts]), labels[:together])


def test_the_rate_is_that_of_the_global_batch_whatever_the_workers(worker):
    data = worker.images()
    jobs = [worker.supernet(Place()).start(data, Place(rank=0, world_size=size)) for size in (1, 2, 4)]
    assert len({job.trainer.optimizer.param_groups[0]["lr"] for job in jobs}) == 1
    assert len({job.steps_per_epoch for job in jobs}) == 1


class TwoThreads:
    """Two workers as threads of this process, which sum tensors as `all_reduce` does."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=30)
        self.tensors = {}

    def all_reduce(self, tensor):
        self.tensors[threading.get_ident()] = tensor.clone()
        self.barrier.wait()
        total = sum(self.tensors.values())
        self.barrier.wait()
        tensor.copy_(total)


def test_workers_evaluate_the_same_network_after_an_epoch(worker, monkeypatch):
    """Each sees other images, so that statistics differ until they are averaged, those of averaged weights too."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", TwoThreads().all_reduce)
    places = [Place(rank=rank, world_size=2) for rank in range(2)]
    running = [worker.network(place).start(worker.images(), place) for place in places]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda job: job.run_epoch(), running))
    for models in ([job.trainer.evaluated for job in running], [job.trainer.model for job in running]):
        first, second = map(to_numpy, models)
        assert any(name.endswith("running_mean") for name in first)
        for name, values in first.items():
            assert np.array_equal(values, second[name]), name


def test_buffers_become_the_mean_over_the_workers(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", TwoThreads().all_reduce)
    norms = [torch.nn.BatchNorm1d(2) for _ in range(2)]
    for norm, mean, variance in zip(norms, (1.0, 4.0), (0.5, 2.5), strict=True):
        norm.running_mean.copy_(torch.tensor([mean, -mean]))
        norm.running_var.fill_(variance)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(average_buffers, norms))
    for norm in norms:
        assert norm.running_mean.tolist() == [2.5, -2.5]
        assert norm.running_var.tolist() == [1.5, 1.5]


def test_workers_share_the_sub_networks_of_a_step(monkeypatch):
    """Together they train those that one worker would train, and none twice."""
    from nasray.models.supernet import Supernet
    from nasray.spaces.mobile import MobileSpace
    from nasray.training.losses import ordered_dropout

    seen = []
    supernet = Supernet(MobileSpace(mobile_8()))
    images, labels = torch.randn(24, 1, 8, 8), torch.randint(10, (24,))
    plain = supernet.forward_planned
    monkeypatch.setattr(
        supernet, "forward_planned", lambda x, plan: (seen.append((plan.macs, len(x))), plain(x, plan))[1]
    )
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        seen.clear()
        part = slice(24 // world_size * rank, 24 // world_size * (rank + 1))
        step = ordered_dropout(supernet, np.random.default_rng(5), num_subnets=6, rank=rank, world_size=world_size)
        step(images[part], labels[part], lambda loss: loss)
        if world_size == 1:
            whole = sorted(seen)
            left = list(whole)
        else:
            assert len(seen) == 3
            for item in seen:
                left.remove(item)
    assert len(whole) == 6
    assert not left
