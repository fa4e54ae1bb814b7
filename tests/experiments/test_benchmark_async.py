import importlib
import json
import sys
from pathlib import Path

import pytest

from nasray.spaces.cell import CellSpace

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("benchmark_async")


class Times:
    """A load with given times; the candidates' architectures do not matter."""

    restart_s = 2.0

    def __init__(self, *costs):
        self.costs = iter(costs)

    def of(self, architecture):
        return next(self.costs)


def asks(count):
    names = iter(range(count))
    return lambda: next(((name, CellSpace().smallest()) for name in names), None)


def test_virtual_time_hands_out_at_once_and_brings_dead_workers_back(benchmark):
    told = []
    load = Times((3.0, False), (1.0, True), (4.0, False), (1.0, False))
    outcome = benchmark.simulate(asks(4), lambda *result: told.append(result), load, 2)
    # Worker 0 ends at 3; worker 1 dies at 1, is back at 3, and both go on.
    assert outcome.intervals == [(0, 3), (0, 1), (3, 7), (3, 4)]
    assert told == [(1, True), (0, False), (3, False), (2, False)]
    assert outcome.busy_share(2, 0, 3) == pytest.approx(4 / 6)
    assert outcome.figures(2)["busy"] == pytest.approx(4 / 6)
    assert outcome.figures(2)["busy_whole"] == pytest.approx(9 / 14)


def test_generations_wait_for_their_last_candidate(benchmark):
    search = benchmark.Generations(20, population_size=6, seed=0)
    for _ in range(3):
        first = [search.ask() for _ in range(6)]
        assert len({architecture for _, architecture in first}) == 6
        for index in range(5):
            search.tell(index, False)
            assert search.ask() is None
        search.tell(5, True)
    assert search.ask() is not None


def test_load_is_the_architectures_own_and_log_uniform(benchmark):
    space, load = CellSpace(), benchmark.Load(shortest_s=60.0, ratio=10.0, deaths=0.05, restart_s=5.0, seed=0)
    rng = benchmark.np.random.default_rng(0)
    architectures = list({space.random(rng) for _ in range(8000)})
    costs = [load.of(architecture) for architecture in architectures]
    alive = sorted(seconds for seconds, dies in costs if not dies)
    assert load.of(architectures[7]) == costs[7]
    assert 60 <= alive[0] < 61
    assert 590 < alive[-1] <= 600
    assert alive[len(alive) // 2] == pytest.approx(60 * 10**0.5, rel=0.05)
    assert 1 - len(alive) / len(architectures) == pytest.approx(0.05, abs=0.015)


def test_all_are_busy_from_the_first_full_overlap(benchmark):
    assert benchmark.first_time_all_busy([(0, 5), (1, 2), (2.5, 9), (4, 9)], 3) == 4


def test_benchmark_meets_its_goal_in_virtual_time(benchmark, monkeypatch, capsys, tmp_path):
    options = ["--seeds", "2", "--candidates", "400", "--populations", "16", "--json", str(tmp_path / "async.json")]
    monkeypatch.setattr(sys, "argv", ["benchmark_async.py", *options])
    benchmark.main()
    assert "met" in capsys.readouterr().out
    figures = json.loads((tmp_path / "async.json").read_text())["figures"]
    assert figures["asynchronous"]["busy"]["mean"] > 0.95 > 0.6 > figures["nsga2_16"]["busy"]["mean"]


def test_wrong_options_are_one_sentence(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark_async.py", "--deaths", "1.5"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--deaths in [0, 1)" in capsys.readouterr().err
