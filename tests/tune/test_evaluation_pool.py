import numpy as np
import psutil
import pytest
import ray

from nasray.spaces.mobile import MobileSpace
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.jobs import load_supernet
from nasray.tune.evaluation_pool import EvaluationPool
from nasray.tune.session import Workers

pytestmark = pytest.mark.ray


@pytest.fixture
def pool(cluster, network, weights, comparison):
    pool = EvaluationPool(
        network,
        ray.put(weights),
        ray.put(comparison),
        CandidateConfig(),
        Workers(count=2, cpus=1, gpus=0),
        owner="test",
    )
    pool.wait_until_ready()
    yield pool
    pool.close()


def test_pool_returns_what_a_local_evaluator_does_in_order(pool, network, weights, comparison):
    space = MobileSpace(network)
    generator = np.random.default_rng(0)
    architectures = [space.random(generator) for _ in range(13)]
    local = CandidateEvaluator(load_supernet(space, weights), comparison, CandidateConfig())
    for got, architecture in zip(pool.evaluate(architectures), architectures, strict=True):
        expected = local(architecture)
        assert got.status == "ok"
        assert got.metrics["accuracy"] == pytest.approx(expected.metrics["accuracy"], abs=0.01)
        assert got.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-4)


def test_pool_survives_a_killed_evaluator(pool, network):
    space = MobileSpace(network)
    generator = np.random.default_rng(1)
    architectures = [space.random(generator) for _ in range(30)]
    before = pool.evaluate(architectures)
    killed = []

    def kill_one(_):
        if not killed:
            processes = psutil.process_iter(["cmdline"])
            victim = next(p for p in processes if "ray::Evaluator" in " ".join(p.info["cmdline"] or []))
            victim.kill()
            killed.append(victim.pid)

    after = pool.evaluate(architectures, on_done=kill_one)
    assert killed
    assert [e.metrics["loss"] for e in after] == pytest.approx([e.metrics["loss"] for e in before], rel=1e-5)


def test_evaluating_leaves_the_shared_weights_alone(pool, network, weights):
    before = {name: value.copy() for name, value in weights.items()}
    space = MobileSpace(network)
    pool.evaluate([space.random(np.random.default_rng(2)) for _ in range(4)])
    assert all(np.array_equal(before[name], weights[name]) for name in weights)
