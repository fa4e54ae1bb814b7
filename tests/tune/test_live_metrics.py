"""A run's figures as Ray's metrics, and what feeds them; Prometheus itself is in tests/dashboards."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from rich.console import Console

from nasray.carbon.budget import Spending
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.candidate_search_run import run_search
from nasray.tune.live import metrics
from nasray.tune.live.metrics import RayMetrics, where_metrics_go
from nasray.tune.live.state import LiveRun
from nasray.tune.progress import StageProgress
from nasray.tune.workers import Workers

GOALS = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])


@pytest.fixture
def shown(monkeypatch):
    """What Ray's metrics were set to, by name and labels, where a Ray with two nodes seems to be up."""
    values = {}

    class Metric:
        def __init__(self, name, description, tag_keys):
            self.name, self.labels = name, tag_keys

        def set(self, value, tags):
            assert set(tags) == set(self.labels)
            assert all(text.isascii() for text in tags.values())  # Ray takes no other
            values[(self.name, *tags.values())] = value

        def inc(self, value, tags):
            self.set(values.get((self.name, *tags.values()), 0) + value, tags)

    nodes = [{"NodeID": name * 8, "NodeManagerAddress": "10.0.0.1" if name < "c" else "10.0.0.2"} for name in "abc"]
    monkeypatch.setattr(metrics, "Gauge", Metric)
    monkeypatch.setattr(metrics, "Counter", Metric)
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(metrics.ray, "nodes", lambda: nodes)
    return values


def test_known_figures_are_set_and_unknown_ones_are_not(shown) -> None:
    live = LiveRun()
    live.name, live.stage, live.done = "run", "search", 0.25
    live.spending = Spending(hours=0.5, energy_j=None, carbon_g=None)
    live.budget_left = {"hours": 0.75}
    live.workers, live.queue = (1, 2), 0
    live.add("a", Evaluation(status="failed", reason="diverged"))
    RayMetrics(live).export()
    assert shown == {
        ("nasray_stage_done", "run", "search"): 0.25,
        ("nasray_hours", "run"): 0.5,
        ("nasray_budget_left", "run", "hours"): 0.75,
        ("nasray_workers", "run", "busy"): 1,
        ("nasray_workers", "run", "all"): 2,
        ("nasray_queue_length", "run"): 0,
        ("nasray_evaluations", "run", "failed"): 1,
    }


def test_runs_may_have_any_name(shown) -> None:
    live = LiveRun()
    live.follow("r\N{LATIN SMALL LETTER U WITH DIAERESIS}n", None)
    live.add("a", Evaluation())
    RayMetrics(live).export()
    assert shown["nasray_evaluations", r"r\xfcn", "ok"] == 1


def test_evaluations_are_counted_on(shown) -> None:
    live = LiveRun()
    live.follow("run", None)
    exported = RayMetrics(live)
    for sample_id in ("a", "b", "c"):
        live.add(sample_id, Evaluation())
        exported.export()
        exported.export()
    assert shown["nasray_evaluations", "run", "ok"] == 3


def test_carbon_is_in_kg_and_nodes_have_names(shown, monkeypatch) -> None:
    live = LiveRun()
    live.follow("run", None)
    live.spending = Spending(hours=1.0, energy_j=7.2e6, carbon_g=950.0)
    monkeypatch.setattr(live.power, "nodes_w", lambda: {"a" * 8: 30.0, "c" * 8: 40.0, "local": 5.0})
    monkeypatch.setattr(live.power, "trials_w", lambda: {("c" * 8, "t1"): 12.5})
    RayMetrics(live).export()
    assert (shown["nasray_energy_j", "run"], shown["nasray_carbon_kg", "run"]) == (7.2e6, 0.95)
    # Two nodes share an address; the third one's is its name, as in Ray's own metrics.
    assert shown["nasray_power_w", "run", "10.0.0.1 aaaaaa"] == 30.0
    assert shown["nasray_power_w", "run", "10.0.0.2"] == 40.0
    assert shown["nasray_power_w", "run", "local"] == 5.0
    assert shown["nasray_trial_power_w", "run", "10.0.0.2", "t1"] == 12.5


def test_without_ray_nothing_is_set_and_nothing_is_said(shown, monkeypatch) -> None:
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: False)
    live = LiveRun()
    live.follow("run", None)
    RayMetrics(live).export()
    assert shown == {}
    assert where_metrics_go() is None


@pytest.mark.parametrize(("port", "sentence"), [(-1, "No live metrics"), (8080, "Ray's dashboard: http://here:8265;")])
def test_it_is_said_once_where_metrics_go(port, sentence, shown, monkeypatch) -> None:
    monkeypatch.setattr(metrics.ray, "nodes", lambda: [{"Alive": True, "MetricsExportPort": port}])
    monkeypatch.setattr(metrics, "_dashboard_url", lambda: "here:8265")
    out = Console(file=io.StringIO(), width=200)
    progress = StageProgress(out)
    for _ in range(2):
        progress.follow("run", None)
    (line,) = out.file.getvalue().splitlines()
    assert line.startswith(sentence)


def trial(name):
    return SimpleNamespace(trial_id=name, status="PENDING")


def test_busy_workers_and_the_queue_follow_the_trials() -> None:
    progress = StageProgress(Console(file=io.StringIO()), is_quiet=True)
    callback, trials = progress.trials(3, 2), {name: trial(name) for name in "abcd"}
    statuses = {
        callback.on_trial_start: "RUNNING",
        callback.on_trial_recover: "PENDING",
        callback.on_trial_complete: "TERMINATED",
        callback.on_trial_error: "ERROR",
    }

    def after(step, name):
        trials[name].status = statuses[step]
        step(0, list(trials.values()), trials[name])
        callback.on_step_end(0, list(trials.values()))
        return progress.live.workers, progress.live.queue

    assert after(callback.on_trial_start, "a") == ((3, 6), 3)
    assert after(callback.on_trial_start, "b") == ((6, 6), 2)
    assert after(callback.on_trial_recover, "a") == ((3, 6), 3)  # its process crashed; it will start again
    assert after(callback.on_trial_start, "a") == ((6, 6), 2)
    assert after(callback.on_trial_complete, "a") == ((3, 6), 2)
    assert after(callback.on_trial_error, "b") == ((0, 6), 2)


def test_a_batch_keeps_workers_busy_until_its_end() -> None:
    progress = StageProgress(Console(file=io.StringIO()), is_quiet=True)
    seen = []
    with progress.working(4, 6) as came_back:
        for number in (0, 2, 3, 1):
            came_back(number)
            seen.append((progress.live.workers, progress.live.queue))
    assert seen == [((4, 4), 2), ((4, 4), 0), ((1, 4), 0), ((0, 4), 0)]


def test_evaluations_of_a_search_that_have_no_front_are_seen_against_macs() -> None:
    progress = StageProgress(Console(file=io.StringIO()), is_quiet=True)
    row = {"sample_id": "a/1", "status": "ok", "reason": None, "metrics": {"accuracy": 0.5, "macs": 1e6}}
    callback = progress.search(1, [row])
    result = {"evaluations": [row, {**row, "sample_id": "a/2", "metrics": {"accuracy": 0.6, "macs": 2e6}}]}
    result |= {"initial_cost": 10.0, "target": 5.0, "cost": 7.5, "num_samples": 2, "accuracy": 0.6}
    callback.on_trial_result(0, [], SimpleNamespace(config={"trial": {"name": "a"}}), result)
    assert progress.live.evaluations == {"ok": 2}
    assert (progress.live.front_size, progress.live.best_accuracy, progress.live.done) == (2, 0.6, 0.5)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_and_its_continuation_are_counted_whole(cluster, tmp_path) -> None:
    def make():
        def evaluate(architecture):
            share = int(architecture.arch_id[:4], 16) / 65536
            if share < 0.2:
                raise ValueError("bad luck")
            return {"accuracy": share, "macs": 1e6 * share}

        return lambda architecture: Evaluation(metrics=evaluate(architecture))

    found = []
    for number, is_resumed in ((6, False), (9, True)):
        strategy = RandomSearch(CellSpace(), GOALS, num_evaluations=number, generator=np.random.default_rng(1))
        progress = StageProgress(Console(file=io.StringIO()), is_quiet=True)
        about = {"method": "test", "preset": "test", "configuration": {}, "seed": 0, "data": {}}
        run = RunDirectory.create(tmp_path / "run", resume=is_resumed, **about)
        workers = Workers(count=2, cpus=1, gpus=0)
        archive = run_search(strategy, make, workers=workers, run=run, progress=progress)
        live = progress.live
        found.append((sum(live.evaluations.values()), live.name, live.front_size))
        assert found[-1] == (number, "run", len(archive.front))
        assert live.evaluations.get("failed", 0) == sum(row["status"] == "failed" for row in run.evaluations())
        run.close()
    assert ray.is_initialized()
