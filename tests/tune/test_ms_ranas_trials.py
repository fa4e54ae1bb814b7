"""Searches and trainings of MS-RANAS as Tune trials."""

from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray import tune

from nasray.differentiable.config import SearchConfig
from nasray.differentiable.search_job import SearchJob
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.exit_jobs import ExitJob, metric_names, with_cutout
from nasray.training.jobs import Place
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.ms_ranas_presets import sgd_recipe
from nasray.tune.ms_ranas_search import GenotypeTask, GenotypeTrial, Halving
from nasray.tune.session import run_trials
from nasray.tune.storage_folder import StorageFolder
from nasray.tune.training_trial import TrainingTask, data_parallel_trial, last_weights
from nasray.tune.workers import Workers

pytestmark = pytest.mark.ray

LAYOUT = MultiScaleSettings(num_nodes=2, scales=2, layers=3, exits=2, channels=4, in_channels=1, resolution=8)
ONE = Workers(count=1, cpus=1, gpus=0)


def run(trainable, task, tmp_path, *, attempt=1, resume_from=None):
    return run_trials(
        tune.with_parameters(trainable, tasks={"t": task}),
        ["t"],
        stage=f"search-{attempt}",
        storage=StorageFolder.local(tmp_path),
        resources=task.resources(),
        callbacks=[],
        resume_from={"t": resume_from} if resume_from else {},
    )["t"]


def test_a_search_that_goes_on_in_another_trial_finds_the_same(cluster, digits, tmp_path):
    job = SearchJob(settings=LAYOUT, config=SearchConfig(epochs=3, batch_size=128), seed=4)
    alone = job.start(with_cutout(digits, 2), Place())
    losses = [alone.run_epoch()["loss"] for _ in range(3)]
    task = GenotypeTask(job=job, data=ray.put(digits), workers=ONE, cutout_px=2)
    whole = run(GenotypeTrial, task, tmp_path / "whole")
    assert Genotype.from_json(whole.metrics["genotype"]) == alone.genotype()
    assert [epoch["loss"] for epoch in whole.metrics["history"]] == pytest.approx(losses, rel=1e-4)
    first = sorted((tmp_path / "whole" / "search-1" / "t").glob("checkpoint_*"))[0]  # two are kept: of epochs 2 and 3
    resumed = run(GenotypeTrial, task, tmp_path / "resumed", resume_from=str(first))
    assert resumed.metrics["history"] == whole.metrics["history"]
    assert resumed.metrics["genotype"] == whole.metrics["genotype"]
    # A search that was over but not noted reports once more, and searches no further.
    again = CheckpointStore.local(tmp_path / "resumed").newest("search", "t")
    over = run(GenotypeTrial, task, tmp_path / "over", resume_from=again)
    assert over.metrics["history"] == whole.metrics["history"] and over.metrics["done"]


def test_searches_behind_others_in_accuracy_and_macs_are_stopped():
    halving = Halving(2.0, epochs=9)  # rungs after 3 and 6 epochs

    def report(name, epoch, accuracy, macs):
        trial = SimpleNamespace(trial_id=name, config={"trial": {"name": name}})
        return halving.on_trial_result(None, trial, {"epoch": epoch, "holdout_accuracy": accuracy, "macs": macs})

    assert report("a", 1, 0.1, 9e6) == report("a", 3, 0.8, 2e6) == Halving.CONTINUE
    assert report("b", 3, 0.7, 3e6) == Halving.STOP  # less accurate and dearer
    assert report("c", 3, 0.6, 1e6) == Halving.CONTINUE  # cheaper
    assert report("a", 9, 0.9, 2e6) == Halving.STOP  # at its end
    assert halving.stopped == {"b"}


@pytest.mark.slow
def test_networks_with_exits_train_data_parallel(cluster, digits, tmp_path):
    space = MultiScaleSpace(LAYOUT)
    job = ExitJob(
        plan=space.plan(space.random(np.random.default_rng(0))),
        training=sgd_recipe(epochs=2, batch_size=128, learning_rate=0.1),
        drop_path=0.1,
    )
    workers = Workers(count=2, cpus=1, gpus=0)
    task = TrainingTask(job=job, data=ray.put(digits), workers=workers, storage=str(tmp_path / "train"), stage="final")
    result = run(data_parallel_trial, task, tmp_path)
    assert result.metrics["epoch"] == 2
    assert set(metric_names(job.plan)) <= set(result.metrics)
    assert 0 <= result.metrics["holdout_accuracy_exit_1"] <= 1
    assert all(len(policy["thresholds"]) == 2 for policy in result.metrics["adaptive"])
    weights = last_weights(result)
    assert all(np.isfinite(value).all() for value in weights.values())
