import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import tune

from nasray.training.config import TrainingConfig
from nasray.training.jobs import NetworkJob, Place, SupernetJob
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.session import run_trials
from nasray.tune.storage_folder import StorageFolder
from nasray.tune.training_trial import TrainingTask, TrainingTrial, data_parallel_trial, last_weights
from nasray.tune.workers import Workers

pytestmark = pytest.mark.ray


def run_training(job, digits, tmp_path, *, workers=1, attempt=1, resume_from=None):
    task = TrainingTask(
        job=job,
        data=ray.put(digits),
        workers=Workers(count=workers, cpus=1, gpus=0),
        storage=str(tmp_path / "train"),
        stage="stage",
    )
    trainable = TrainingTrial if workers == 1 else data_parallel_trial
    return run_trials(
        tune.with_parameters(trainable, tasks={"t": task}),
        ["t"],
        stage=f"stage-{attempt}",
        storage=StorageFolder.local(tmp_path),
        resources=task.resources(),
        callbacks=[],
        resume_from={"t": resume_from} if resume_from else {},
    )["t"]


def supernet_job(network, epochs):
    return SupernetJob(network=network, training=TrainingConfig(epochs=epochs, batch_size=256), num_subnets=4)


def test_resumed_training_equals_one_without_a_break(cluster, digits, network, tmp_path):
    whole = supernet_job(network, 3).start(digits, Place())
    for _ in range(3):
        whole.run_epoch()
    run_training(supernet_job(network, 1), digits, tmp_path)
    found = CheckpointStore.local(tmp_path).newest("stage", "t")
    result = run_training(supernet_job(network, 3), digits, tmp_path, attempt=2, resume_from=found)
    assert result.metrics["epoch"] == 3
    resumed = last_weights(result)
    for name, value in whole.weights().items():
        assert np.allclose(resumed[name], value, rtol=1e-3, atol=1e-4), name


def test_final_training_reports_test_accuracy(cluster, digits, network, tmp_path):
    from nasray.spaces.mobile import MobileSpace

    architecture = MobileSpace(network).largest()
    recipe = TrainingConfig(epochs=6, batch_size=64, ema_decay=0.0)
    job = NetworkJob(network=network, training=recipe, architecture=architecture)
    result = run_training(job, digits, tmp_path)
    assert result.metrics["test_accuracy"] > 0.5


@pytest.mark.slow
def test_two_workers_train_through_ray_train(cluster, digits, network, tmp_path):
    result = run_training(supernet_job(network, 2), digits, tmp_path, workers=2)
    assert result.metrics["epoch"] == 2

    assert ray.available_resources()["CPU"] == 2  # the workers are given back
    weights = last_weights(result)
    assert all(np.isfinite(value).all() for value in weights.values())
    again = run_training(supernet_job(network, 2), digits, tmp_path, workers=2, attempt=2)
    for name, value in last_weights(again).items():
        assert np.array_equal(value, weights[name]), name


@dataclass(frozen=True)
class DiesOnce:
    """A job whose second worker is killed in its second epoch, the first time that it gets there."""

    job: SupernetJob
    notes: Path

    @property
    def training(self):
        return self.job.training

    def final_metrics(self, running, data, place):
        return {}

    def start(self, data, place):
        running = self.job.start(data, place)
        run_epoch = running.run_epoch

        def noted():
            epoch = running.trainer.epoch
            with (self.notes / f"rank{place.rank}").open("a", encoding="utf-8") as file:
                file.write(f"{epoch}\n")
            death = self.notes / "death"
            if place.rank == 1 and epoch == 1 and not death.exists():
                death.touch()
                time.sleep(6)  # Ray Train takes note of a reported checkpoint every two seconds
                os.kill(os.getpid(), signal.SIGKILL)
            return run_epoch()

        running.run_epoch = noted
        return running


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_data_parallel_worker_goes_on_from_the_last_checkpoint(cluster, digits, network, tmp_path):
    (tmp_path / "notes").mkdir()
    job = DiesOnce(supernet_job(network, 3), tmp_path / "notes")
    result = run_training(job, digits, tmp_path, workers=2)
    assert result.metrics["epoch"] == 3
    for rank in range(2):
        epochs = (tmp_path / "notes" / f"rank{rank}").read_text(encoding="utf-8").split()
        # The second epoch was begun twice; the first one, which was saved, never again.
        assert epochs.count("0") == 1
        assert epochs.count("1") == 2
        assert epochs == sorted(epochs)
    whole = run_training(supernet_job(network, 3), digits, tmp_path / "whole", workers=2)
    weights = last_weights(whole)
    for name, value in last_weights(result).items():
        assert np.array_equal(value, weights[name]), name


@pytest.mark.slow
@pytest.mark.long
def test_a_checkpoint_of_two_workers_goes_on_with_one(cluster, digits, network, tmp_path):
    run_training(supernet_job(network, 1), digits, tmp_path, workers=2)
    found = CheckpointStore.local(tmp_path).newest("stage", "t")
    result = run_training(supernet_job(network, 2), digits, tmp_path, attempt=2, resume_from=found)
    assert result.metrics["epoch"] == 2
    assert result.metrics["training_iteration"] == 1


def test_newest_checkpoint_passes_over_torn_ones(tmp_path):
    for number, text in ((1, '{"a": 1}'), (2, '{"a": ')):
        folder = tmp_path / "search-1" / "t" / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True)
        (folder / "progress.json").write_text(text)
    assert CheckpointStore.local(tmp_path).newest("search", "t").endswith("checkpoint_000001")
    assert CheckpointStore.local(tmp_path).newest("search", "other") is None
