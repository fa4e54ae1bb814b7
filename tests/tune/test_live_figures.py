"""The figures of a run that goes on: front, power, spending."""

import numpy as np
import pytest

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.carbon.account import EnergyAccount
from nasray.carbon.budget import Budget, Spending
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import Lease
from nasray.carbon.node_meter import NodeMeter
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Constraint, Objective
from nasray.tune.live.front import LiveFront
from nasray.tune.live.power import PowerReadings
from nasray.tune.live.state import LiveRun

GOALS = Pareto(
    [Objective(name="accuracy", direction="maximize"), Objective(name="macs"), Objective(name="latency_ms")],
    [Constraint.parse("macs<=900")],
)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def drawn(generator):
    accuracy, macs, latency_ms = generator.integers(1, 1000, 3)
    return Evaluation(metrics={"accuracy": accuracy / 1000, "macs": float(macs), "latency_ms": float(latency_ms)})


@pytest.mark.parametrize("seed", range(5))
def test_front_and_hypervolume_are_those_of_the_archive(seed) -> None:
    generator, archive, front = np.random.default_rng(seed), ParetoArchive(GOALS), LiveFront(GOALS)
    for number in range(60):
        evaluation = drawn(generator)
        archive.add(str(number), Architecture.of("test", {"width": number}), evaluation)
        front.add(evaluation.metrics)
        assert front.size == len(archive.front)
        assert (front.hypervolume(now=True) or 0.0) == pytest.approx(archive.hypervolume(), rel=1e-12)


def test_an_evaluation_without_an_objective_is_left_out() -> None:
    front = LiveFront(GOALS)
    front.add({"accuracy": 0.5})
    assert front.size == 0
    assert front.hypervolume(now=True) is None


def test_hypervolume_takes_a_two_hundredth_of_the_time(monkeypatch) -> None:
    clock, computed = Clock(), []

    def slow(values_FM, worst_M):
        clock.now_s += 0.1
        computed.append(clock.now_s)
        return float(len(values_FM))

    monkeypatch.setattr("nasray.tune.live.front.hypervolume", slow)
    front, generator = LiveFront(GOALS, clock=clock), np.random.default_rng(0)
    start_s = clock.now_s
    while clock.now_s < start_s + 200:
        front.add(drawn(generator).metrics)
        front.hypervolume()
        clock.now_s += 0.05
    waits = np.diff(computed)
    assert len(computed) > 3
    assert min(waits) > 0.1 / 0.005
    assert len(computed) * 0.1 / (clock.now_s - start_s) < 0.01


def snapshot(node_j, duration_s, leases=(), *, node="a", meter="m"):
    """A meter's snapshot with what matters here; leases are (id, owner, joules, seconds, who closed it)."""
    return {
        "meter_id": meter,
        "node": node,
        "duration_s": duration_s,
        "domains": {"cpu": {"node_j": node_j}, "gpu": {"node_j": None}},
        "leases": {
            key: {"energy": {"owner": owner, "energy_j": joules, "duration_s": seconds, "closed_by": closed_by}}
            for key, owner, joules, seconds, closed_by in leases
        },
    }


def test_power_is_energy_over_the_meters_own_time() -> None:
    readings = PowerReadings(clock=Clock())
    readings.take(snapshot(1000.0, 50.0, [("1", "t1", 10.0, 5.0, None), ("2", "t1", 0.0, 1.0, None)]))
    assert readings.nodes_w() == {}
    readings.take(
        snapshot(
            1080.0,
            52.0,
            [
                ("1", "t1", 30.0, 7.0, None),  # 10 W
                ("2", "t1", 6.0, 3.0, None),  # 3 W, the same trial
                ("3", "t2", 5.0, 0.5, None),  # new: 10 W in its half second
                ("4", "t3", 9.0, 1.0, "caller"),  # ended
                ("5", "t4", None, 1.0, None),  # unknown
            ],
        )
    )
    assert readings.nodes_w() == {"a": pytest.approx(40.0)}
    assert readings.trials_w() == {("a", "t1"): pytest.approx(13.0), ("a", "t2"): pytest.approx(10.0)}


def test_power_is_of_the_present_moment() -> None:
    clock = Clock()
    readings = PowerReadings(clock=clock)
    readings.take(snapshot(0.0, 1.0))
    readings.take(snapshot(1.0, 1.1))  # too soon: counters move in steps
    assert readings.nodes_w() == {}
    readings.take(snapshot(20.0, 2.0))
    assert readings.nodes_w() == {"a": pytest.approx(20.0)}
    clock.now_s += 11.0
    assert readings.nodes_w() == {}


def test_a_new_meter_on_a_node_starts_anew() -> None:
    readings = PowerReadings(clock=Clock())
    readings.take(snapshot(500.0, 10.0))
    readings.take(snapshot(3.0, 1.0, meter="n"))
    assert readings.nodes_w() == {}
    readings.take(snapshot(13.0, 2.0, meter="n"))
    assert readings.nodes_w() == {"a": pytest.approx(10.0)}


def test_a_node_without_any_counter_has_no_power() -> None:
    readings = PowerReadings(clock=Clock())
    for seconds in (1.0, 2.0):
        readings.take(snapshot(None, seconds))
    assert readings.nodes_w() == {}


class FakeAccount(EnergyAccount):
    """Spends as it likes."""

    def _open(self):
        self.meter = NodeMeter([], node="a")
        self.meter.open(Lease.of_this_process(owner="t", stage="search", cpus=1.0))

    def _close(self):
        pass

    def _snapshots(self, *, is_final):
        return [self.meter.snapshot()]

    def spending(self):
        return Spending(hours=0.5, energy_j=1.8e6, carbon_g=None)


def test_what_is_left_of_each_limit_that_is_known() -> None:
    budget = Budget(hours=2.0, kwh=0.25, co2_kg=1.0)
    account = FakeAccount(CarbonIntensity(g_per_kwh=100.0, source="test"), budget=budget)
    live = LiveRun(clock=Clock())
    live.follow("run", account)
    assert live.refresh()
    assert not live.refresh()
    assert live.budget_left == {"hours": 0.75, "kwh": 0.0}
    assert live.spending == account.spending()


def test_an_account_shows_its_snapshots_to_whoever_watches() -> None:
    seen = []
    account = FakeAccount(CarbonIntensity(g_per_kwh=100.0, source="test"))
    account.watch(seen.append)
    account.start()
    account.refresh(now=True)
    assert [found["sequence"] for found in seen] == [1, 2]


def test_every_sample_counts_once() -> None:
    live = LiveRun()
    live.aim(GOALS)
    for sample_id in ("a", "b", "b"):
        live.add(sample_id, Evaluation(metrics={"accuracy": 0.5, "macs": 10.0, "latency_ms": 1.0}))
    live.add("c", Evaluation(status="failed", reason="diverged", metrics={"accuracy": 0.99}))
    assert live.evaluations == {"ok": 2, "failed": 1}
    assert (live.best_accuracy, live.front_size) == (0.5, 1)


def test_what_is_unknown_is_none() -> None:
    live = LiveRun()
    assert live.refresh()
    known = (live.stage, live.best_accuracy, live.hypervolume, live.front_size, live.spending, live.power_w, live.queue)
    assert known == (None,) * 7
    assert live.workers is None
    assert (live.evaluations, live.budget_left) == ({}, {})
