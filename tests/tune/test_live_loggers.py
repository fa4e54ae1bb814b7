"""Ray's own logger callbacks beside nasray's searcher and energy account, in a Tuner of a user's own."""

import importlib.util
import math
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from ray import tune

from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.driver_callback import TrialLogs
from nasray.tune.energy import EnergyCallback
from nasray.tune.newest_first import NewestTrialFirst
from nasray.tune.strategy_searcher import StrategySearcher

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("cluster")]
GOALS = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])
NUM_TRIALS = 3


def needs(module):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {module}")


def trainable(config):
    for epoch in (1, 2):
        tune.report({"accuracy": epoch / 4, "macs": 1e6, "epoch": epoch})


def fit(storage, logger):
    """Search with two of nasray's parts and one logger of Ray's; it comes after the energy, to see its columns."""
    strategy = RandomSearch(CellSpace(), GOALS, num_evaluations=NUM_TRIALS, generator=np.random.default_rng(0))
    with closing(TrialLogs()) as logs:
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=StrategySearcher(strategy), scheduler=NewestTrialFirst(), num_samples=-1
            ),
            run_config=tune.RunConfig(
                name="test",
                storage_path=str(storage),
                callbacks=[EnergyCallback(place="FRA"), logger, logs],
                verbose=0,
            ),
        ).fit()


def energies(results):
    found = sorted(result.metrics["energy_j"] for result in results)
    assert len(found) == NUM_TRIALS
    return found


@needs("tensorboardX")
def test_tensorboard_gets_figures_and_energy(tmp_path) -> None:
    from ray.tune.logger import TBXLoggerCallback

    results = fit(tmp_path / "ray", TBXLoggerCallback())
    wanted = {result.path: result.metrics["energy_j"] for result in results}
    for path, energy_j in wanted.items():
        (events,) = Path(path).glob("events.out.tfevents.*")
        scalars = scalars_of(events)
        assert scalars["ray/tune/accuracy"] == [0.25, 0.5]
        assert scalars["ray/tune/energy_j"][-1] == pytest.approx(energy_j, rel=1e-6)
        assert scalars["ray/tune/carbon_g"][-1] > 0


def scalars_of(path):
    """Return the values of each tag in a file of events: a length, a checksum, a message, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, start, found = path.read_bytes(), 0, {}
    while start < len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        event = Event.FromString(content[start + 12 : start + 12 + length])
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found.setdefault(value.tag, []).append(value.simple_value)
        start += length + 16
    return found


@needs("mlflow")
def test_mlflow_gets_figures_and_energy_in_a_local_store(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 wants to be asked for it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own, at its import
        from mlflow import MlflowClient
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        uri = (tmp_path / "mlruns").as_uri()
        logger = MLflowLoggerCallback(tracking_uri=uri, experiment_name="nasray")
        results = fit(tmp_path / "ray", logger)
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("nasray")
        runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * NUM_TRIALS
    assert sorted(run.data.metrics["energy_j"] for run in runs) == pytest.approx(energies(results))
    assert {run.data.metrics["accuracy"] for run in runs} == {0.5}
    assert all("architecture" in run.data.params for run in runs)


@needs("wandb")
def test_wandb_writes_figures_and_energy_offline(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)  # Ray asks for one also offline
    from ray.air.integrations.wandb import WandbLoggerCallback

    # Workers were started before: what the environment says here does not reach them, arguments do.
    logger = WandbLoggerCallback(project="nasray", mode="offline", dir=str(tmp_path))
    results = fit(tmp_path / "ray", logger)
    assert all(math.isfinite(energy_j) for energy_j in energies(results))
    files = list(tmp_path.rglob("*.wandb"))
    assert len(files) == NUM_TRIALS
    for path in files:
        content = path.read_bytes()
        assert b"energy_j" in content
        assert b"carbon_g" in content
