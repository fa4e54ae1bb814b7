import gc
import json
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.experiment import Trial

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.candidate_search_run import run_search
from nasray.tune.driver_callback import DriverCallback
from nasray.tune.ended_trials import ForgetEndedTrials
from nasray.tune.workers import Workers

FINISHED = ("TERMINATED", "ERROR")


class FakeTrial:
    def __init__(self, trial_id, status):
        self.trial_id, self.status = trial_id, status

    def is_finished(self):
        return self.status in FINISHED


def controller_of(trials):
    return SimpleNamespace(
        _trials=list(trials),
        _live_trials=set(trials),
        _stopped_trials=set(trials),
        _failed_trials=set(trials),
        _trials_to_cache=set(trials),
        _trial_metadata={trial.trial_id: "{}" for trial in trials},
        _trial_to_actor={},
    )


def names(controller):
    return [trial.trial_id for trial in controller._trials]


def test_what_ended_is_forgotten_once_its_actor_is_free():
    done, failed, removed, runs = (FakeTrial(name, "RUNNING") for name in ("done", "failed", "removed", "runs"))
    controller = controller_of([done, failed, removed, runs])
    scheduler = ForgetEndedTrials()
    scheduler.on_trial_complete(controller, done, {})
    scheduler.on_trial_error(controller, failed)
    scheduler.on_trial_remove(controller, removed)
    scheduler.choose_trial_to_run(None)
    assert names(controller) == ["done", "failed", "removed", "runs"]  # Ray has not ended them yet

    done.status = removed.status = "TERMINATED"
    failed.status = "ERROR"
    controller._trial_to_actor[removed] = "actor"
    scheduler.choose_trial_to_run(None)
    assert names(controller) == ["removed", "runs"]
    controller._trial_to_actor.clear()
    scheduler.choose_trial_to_run(None)
    assert names(controller) == list(controller._trial_metadata) == ["runs"]
    for kept in ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache"):
        assert getattr(controller, kept) == {runs}


def test_trial_that_is_tried_again_stays_until_it_ends():
    trial = FakeTrial("again", "RUNNING")
    controller, scheduler = controller_of([trial]), ForgetEndedTrials()
    scheduler.on_trial_add(controller, trial)
    scheduler.on_trial_error(controller, trial)
    trial.status = "PENDING"
    assert scheduler.choose_trial_to_run(None) is trial
    trial.status = "RUNNING"
    scheduler.choose_trial_to_run(None)
    assert names(controller) == ["again"]
    scheduler.on_trial_complete(controller, trial, {})
    trial.status = "TERMINATED"
    scheduler.choose_trial_to_run(None)
    assert names(controller) == []


def test_a_ray_that_keeps_trials_elsewhere_is_left_as_it_is():
    trial, scheduler = FakeTrial("t", "TERMINATED"), ForgetEndedTrials()
    scheduler.on_trial_complete(SimpleNamespace(other=[trial]), trial, {})
    assert scheduler.choose_trial_to_run(None) is None
    assert pickle.loads(pickle.dumps(scheduler)).choose_trial_to_run(None) is None


class Kept(DriverCallback):
    """Counts what Ray keeps."""

    def __init__(self):
        self.most = self.alive = 0
        gc.collect()
        self.others = trials_alive()  # of other tests in this process

    def on_step_end(self, iteration, trials, **info):
        self.most = max(self.most, len(trials))
        if iteration % 50 == 0:
            self.alive = max(self.alive, trials_alive() - self.others)


def trials_alive():
    return sum(type(found) is Trial for found in gc.get_objects())


@pytest.mark.ray
def test_long_search_keeps_neither_trials_nor_folders_but_those_that_tell_of_an_error(cluster, tmp_path):
    def factory():
        def evaluate(architecture):
            how = int(architecture.arch_id, 16) % 60
            if how == 0:
                os._exit(1)
            if how == 1:
                raise RuntimeError("a bug")
            if how < 10:
                return Evaluation(status="infeasible", reason="too slow")
            return Evaluation(metrics={"accuracy": 0.5})

        return evaluate

    formulation = Pareto([Objective(name="accuracy", direction="maximize")])
    strategy = RandomSearch(CellSpace(), formulation, num_evaluations=150, generator=np.random.default_rng(3))
    run = RunDirectory.create(
        tmp_path / "run", method="test", preset="", configuration={}, seed=0, data={}, resume=False
    )
    kept = Kept()
    run_search(
        strategy,
        factory,
        workers=Workers(count=2, cpus=1, gpus=0),
        run=run,
        max_retries=0,
        max_failures=50,
        callbacks=[kept],
    )
    rows = run.evaluations()
    assert len(rows) == 150
    # Two run, two wait or have just ended.
    assert kept.most <= 8
    assert 0 < kept.alive <= 8
    crashed, bugs = ({row["trial_id"] for row in rows if int(row["arch_id"], 16) % 60 == how} for how in (0, 1))
    assert crashed
    assert bugs
    (attempt,) = (run.path / "ray").iterdir()
    folders = {path.name.partition("-")[0]: path for path in attempt.iterdir() if path.is_dir()}
    assert folders.keys() == crashed | bugs
    assert all((folders[candidate] / "error.txt").exists() for candidate in crashed)
    for candidate in bugs:
        (line,) = (folders[candidate] / "result.json").read_text().splitlines()
        assert "a bug" in json.loads(line)["traceback"]
    (snapshot,) = attempt.glob("experiment_state-*.json")
    assert len(json.loads(snapshot.read_text())["trial_data"]) <= 8
