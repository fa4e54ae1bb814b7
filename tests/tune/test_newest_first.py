import os
import pickle
import time
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune

from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.newest_first import NewestTrialFirst
from nasray.tune.strategy_searcher import StrategySearcher


def test_newest_waiting_trial_is_chosen():
    scheduler = NewestTrialFirst()
    trials = [SimpleNamespace(status="PENDING") for _ in range(3)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is trials[2]
    trials[2].status = "RUNNING"
    assert scheduler.choose_trial_to_run(None) is trials[1]
    assert pickle.loads(pickle.dumps(scheduler)).choose_trial_to_run(None) is None
    for trial in trials:
        trial.status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is None
    assert "0 waiting" in scheduler.debug_string()


@pytest.mark.ray
def test_dead_worker_is_replaced_although_others_become_free_all_the_time(cluster, tmp_path):
    """Starting an actor takes longer than the other worker's candidates."""

    class Short(tune.Trainable):
        def setup(self, config):
            time.sleep(0.5)

        def step(self):
            time.sleep(0.05)
            if self.config["candidate_id"] == "20":
                os._exit(1)
            return {"accuracy": 0.5, "done": True, "worker": os.getpid()}

        def reset_config(self, new_config):
            return True

        def save_checkpoint(self, checkpoint_dir):
            return {}

    generator = np.random.default_rng(0)
    formulation = Pareto([Objective(name="accuracy", direction="maximize")])
    strategy = RandomSearch(CellSpace(), formulation, num_evaluations=200, generator=generator)
    tuner = tune.Tuner(
        tune.with_resources(Short, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(strategy, max_retries=0),
            scheduler=NewestTrialFirst(),
            num_samples=-1,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    results = tuner.fit()
    workers = [result.metrics["worker"] for result in results if not result.error]
    assert len(workers) == 199
    # Both workers are busy in the end: the dead one's successor, too.
    assert len(set(workers[-20:])) == 2
