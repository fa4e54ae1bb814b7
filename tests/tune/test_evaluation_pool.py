import numpy as np
import psutil
import pytest
import ray

from nasray.evaluation import Evaluation
from nasray.spaces.mobile import MobileSpace
from nasray.training.candidates import CandidateConfig, CandidateEvaluator
from nasray.training.jobs import load_supernet
from nasray.tune import evaluation_pool
from nasray.tune.evaluation_pool import EvaluationPool
from nasray.tune.failure_limit import FailureLimit
from nasray.tune.workers import Workers

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


@pytest.fixture
def make_pool(cluster, network, weights, comparison):
    """Makes pools whose first evaluators call something else; those that replace them do not."""
    pools = []

    def make(evaluate, **options):
        pool = EvaluationPool(
            network,
            ray.put(weights),
            ray.put(comparison),
            CandidateConfig(),
            Workers(count=1, cpus=1, gpus=0),
            owner="test",
            grace_s=0.5,
            **options,
        )
        pool.wait_until_ready()

        def replace(evaluator):
            evaluator._evaluate = evaluate

        ray.get([evaluator.__ray_call__.remote(replace) for evaluator in pool.evaluators])
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def drawn(network, count):
    space, generator = MobileSpace(network), np.random.default_rng(3)
    return [space.random(generator) for _ in range(count)]


def test_pool_ends_what_hangs_and_goes_on(make_pool, network):
    architectures = drawn(network, 9)
    slow = architectures[4].arch_id

    def evaluate(architecture):
        import time

        while architecture.arch_id == slow:
            time.sleep(60)
        return Evaluation(metrics={"accuracy": 0.5})

    found = make_pool(evaluate, timeout_s=2.0).evaluate(architectures)
    assert [e.status for e in found] == ["failed" if a.arch_id == slow else "ok" for a in architectures]
    assert found[4].reason == "time-out: took longer than 2 s"


def test_pool_survives_what_hangs_in_native_code_and_does_not_try_it_again(make_pool, network):
    def evaluate(architecture):
        import itertools

        sum(itertools.repeat(0))  # looks at no signal and lets no other thread run

    pool, seen = make_pool(evaluate, timeout_s=1.0), []
    (found,) = pool.evaluate(drawn(network, 1), on_done=seen.append)
    assert (found.status, found.reason) == ("failed", "time-out: took longer than 1 s")
    assert seen == [1]


def test_candidate_that_kills_its_evaluators_fails(make_pool, network, monkeypatch):
    monkeypatch.setattr(evaluation_pool, "_TRIES", 1)  # the second evaluator would be a good one

    def evaluate(architecture):
        import os

        os._exit(1)

    (found,) = make_pool(evaluate).evaluate(drawn(network, 1))
    assert found.status == "failed"
    assert found.reason.startswith("the worker died")


def test_pool_stops_when_too_many_fail_in_a_row(make_pool, network):
    def evaluate(architecture):
        raise ValueError("shapes do not fit")

    limit, architectures = FailureLimit(4), drawn(network, 60)
    found = make_pool(evaluate, limit=limit).evaluate(architectures)
    assert limit.is_reached
    made = [evaluation for evaluation in found if evaluation is not None]
    assert len(found) == 60
    assert 4 <= len(made) < 60
    assert all(evaluation.reason.startswith("ValueError: shapes do not fit") for evaluation in made)


def test_evaluating_leaves_the_shared_weights_alone(pool, network, weights):
    before = {name: value.copy() for name, value in weights.items()}
    space = MobileSpace(network)
    pool.evaluate([space.random(np.random.default_rng(2)) for _ in range(4)])
    assert all(np.array_equal(before[name], weights[name]) for name in weights)
