"""Which checkpoint a trial goes on from, and what the record says where some are lost."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from rich.console import Console

from nasray.carbon.intensity import CarbonIntensity
from nasray.records import DiskError, RunDirectory
from nasray.training.config import TrainingConfig
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.checkpoints import has_weights, is_whole, load_weights, save_state, save_weights
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.progress import StageProgress
from nasray.tune.stages import Stages
from nasray.tune.storage_folder import StorageFolder
from nasray.tune.workers import Workers


def directory(path):
    return RunDirectory.create(path, method="test", preset="", configuration={}, seed=0, data={}, resume=path.exists())


def checkpoint(storage, number, text):
    folder = storage / "search-1" / "t" / f"checkpoint_{number:06d}"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(text)


def test_older_whole_checkpoint_is_used_and_said(tmp_path):
    run, storage = directory(tmp_path / "run"), tmp_path / "run" / "ray"
    assert CheckpointStore.local(storage).to_resume(run, "search", ["t"]) == {}
    assert run.run["notices"] == []  # it was never begun before
    for number, text in ((1, '{"a": 1}'), (2, '{"a": '), (3, "")):
        checkpoint(storage, number, text)
    assert CheckpointStore.local(storage).to_resume(run, "search", ["t"])["t"].endswith("checkpoint_000001")
    (notice,) = run.run["notices"]
    assert notice.startswith("2 damaged checkpoint(s) of t (search) are passed over: it goes on from ")


def test_trial_without_a_whole_checkpoint_starts_anew_and_says_so(tmp_path):
    run, storage = directory(tmp_path / "run"), tmp_path / "run" / "ray"
    CheckpointStore.local(storage).to_resume(run, "final", ["t", "u"])
    run.close()
    again = directory(tmp_path / "run")
    assert CheckpointStore.local(storage).to_resume(again, "final", ["t", "v"]) == {}
    assert again.run["notices"] == ["t (final) starts anew: it was begun before, but has no whole checkpoint."]
    assert again.run["begun"] == {"final": ["t", "u", "v"]}


def test_weights_that_are_cut_short_are_seen(tmp_path):
    assert not has_weights(tmp_path)
    save_weights(tmp_path, {"a": np.arange(100.0)})
    assert has_weights(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert not has_weights(tmp_path)


def weights_folder(storage, stage, name, number, attempt=1):
    """A whole checkpoint of a training."""
    folder = storage / f"{stage}-{attempt}" / name / f"checkpoint_{number:06d}"
    folder.mkdir(parents=True)
    save_state(folder, {"epoch": number})
    return folder


def left(storage):
    return sorted(str(path.relative_to(storage)) for path in storage.rglob("checkpoint_*"))


def test_finished_trials_keep_no_checkpoint_and_others_theirs(tmp_path):
    for name in ("t", "u"):
        for attempt, number in ((1, 3), (1, 4), (2, 5)):
            weights_folder(tmp_path, "final", name, number, attempt)
    (tmp_path / "final-1" / "t" / "result.json").write_text("{}")
    workers = tmp_path / "train" / "train-final-t"
    (workers / "checkpoint_1").mkdir(parents=True)
    (workers / "checkpoint_manager_snapshot.json").write_text("{}")
    CheckpointStore.local(tmp_path).remove_finished("final", "t")
    assert left(tmp_path) == [
        f"final-{attempt}/u/checkpoint_{number:06d}" for attempt, number in ((1, 3), (1, 4), (2, 5))
    ]
    assert (tmp_path / "final-1" / "t" / "result.json").exists()  # the log stays
    assert not workers.exists()  # Ray Train would look for checkpoints that it finds listed
    CheckpointStore.local(tmp_path).remove_finished("final", "t")  # once more is no harm


def test_unfinished_trial_keeps_the_newest_whole_checkpoint_and_the_one_before(tmp_path):
    for attempt, number in ((1, 1), (1, 2), (2, 3), (2, 4), (2, 5)):
        weights_folder(tmp_path, "final", "t", number, attempt)
    torn = tmp_path / "final-2" / "t" / "checkpoint_000005" / "state.pt"
    torn.write_bytes(torn.read_bytes()[:-40])
    CheckpointStore.local(tmp_path).remove_outdated("final", "t")
    assert left(tmp_path) == ["final-2/t/checkpoint_000003", "final-2/t/checkpoint_000004"]
    assert CheckpointStore.local(tmp_path).newest("final", "t").endswith("checkpoint_000004")


def test_only_torn_checkpoints_leave_nothing(tmp_path):
    folder = weights_folder(tmp_path, "final", "t", 1)
    (folder / "state.pt").write_bytes(b"")
    CheckpointStore.local(tmp_path).remove_outdated("final", "t")
    assert left(tmp_path) == []


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("number", range(7))
def test_process_that_is_killed_while_it_removes_leaves_no_torn_checkpoint(tmp_path, monkeypatch, number):
    for epoch in (1, 2, 3, 4):
        save_weights(weights_folder(tmp_path, "final", "t", epoch), {"a": np.arange(3.0)})
    store, steps = CheckpointStore.local(tmp_path), []

    def until_killed(step):
        def made(*arguments):
            if len(steps) == number:
                raise Killed
            steps.append(arguments)
            step(*arguments)

        return made

    for name in ("remove", "remove_file"):
        monkeypatch.setattr(StorageFolder, name, until_killed(getattr(StorageFolder, name)))
    with pytest.raises(Killed):
        store.remove_outdated("final", "t")
    monkeypatch.undo()
    for folder in tmp_path.glob("final-1/t/*"):  # no head, no checkpoint; what has one is whole
        assert not (folder / "state.pt").exists() or is_whole(StorageFolder.local(folder))
    run = directory(tmp_path / "run")
    assert store.to_resume(run, "final", ["t"])["t"].endswith("checkpoint_000004")
    assert run.run["notices"] == []
    store.remove_outdated("final", "t")
    assert left(tmp_path) == ["final-1/t/checkpoint_000003", "final-1/t/checkpoint_000004"]


def test_a_storage_that_does_not_answer_costs_no_checkpoint(tmp_path, monkeypatch):
    for epoch in (1, 2, 3):
        weights_folder(tmp_path, "final", "t", epoch)

    def away(folder, name):
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation")

    monkeypatch.setattr(StorageFolder, "read", away)
    store = CheckpointStore.local(tmp_path)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        store.newest("final", "t")
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        store.remove_outdated("final", "t")
    assert len(left(tmp_path)) == 3


def test_weights_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    save_weights(tmp_path, {"a": np.arange(3.0)})

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DiskError, match=r"weights\.safetensors cannot be written \(No space left on device\)"):
        save_weights(tmp_path, {"a": np.arange(4.0)})
    assert load_weights(tmp_path)["a"].tolist() == [0.0, 1.0, 2.0]


TWO_EPOCHS = TrainingConfig(epochs=2, batch_size=8)


@dataclass
class Counting:
    """A training that counts, and leaves a line for every epoch that it makes."""

    name: str
    log: str
    trainer: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(epoch=0, config=TWO_EPOCHS))
    skipped_images: tuple = ()

    @property
    def is_finished(self):
        return self.trainer.epoch >= self.trainer.config.epochs

    def run_epoch(self):
        self.trainer.epoch += 1
        with Path(self.log).open("a") as file:
            file.write(f"{self.name} {self.trainer.epoch}\n")
        return {"loss": 1.0 / self.trainer.epoch}

    def state_dict(self):
        return {"epoch": self.trainer.epoch}

    def load_state_dict(self, state):
        self.trainer.epoch = state["epoch"]

    def weights(self):
        return {"epochs": np.array([float(self.trainer.epoch)])}


@dataclass
class CountingJob:
    """Makes a `Counting`."""

    name: str
    log: str
    training: TrainingConfig = TWO_EPOCHS

    def start(self, data, place):
        return Counting(self.name, self.log)

    def final_metrics(self, running, data, place):
        return {"test_accuracy": 0.5}


def train_in_stages(folder, log):
    """Train a supernet, then two networks, or what is left of that."""
    run = directory(folder)
    try:
        intensity = CarbonIntensity(g_per_kwh=400.0, source="test")
        with ClusterAccount(intensity, folder=folder, is_cross_checked=False) as account:
            stages = Stages(run, StageProgress(Console(quiet=True), is_quiet=True), account)
            data, workers = ray.put(None), Workers(count=1, cpus=2, gpus=0)
            folders = {}
            for stage, names in (("supernet", "a"), ("final", "bc")):
                jobs = {name: CountingJob(name, str(log)) for name in names}
                folders |= stages.train(stage, jobs, data, workers)
    finally:
        run.close()
    return {name: load_weights(place)["epochs"].tolist() for name, place in folders.items()}


@pytest.mark.parametrize("number", [1, 2])
def test_run_goes_on_that_was_stopped_right_after_checkpoints_were_removed(cluster, tmp_path, monkeypatch, number):
    log, folder, finished = tmp_path / "log", tmp_path / "run", []

    remove = CheckpointStore.remove_finished

    def removed_and_stopped(store, stage, name):
        remove(store, stage, name)
        finished.append(name)
        if len(finished) == number:
            raise DiskError("stopped")

    monkeypatch.setattr(CheckpointStore, "remove_finished", removed_and_stopped)
    with pytest.raises(DiskError, match=r"^stopped$"):
        train_in_stages(folder, log)
    monkeypatch.undo()
    for stage, trials in RunDirectory.open(folder).run["finished"].items():
        for name in trials:
            assert not list(folder.glob(f"ray/{stage}-*/{name}/checkpoint_*"))
    before = log.read_text().split("\n")
    assert train_in_stages(folder, log) == {name: [2.0] for name in "abc"}
    again = log.read_text().split("\n")[len(before) - 1 :]
    assert not {line.split(" ")[0] for line in again if line} & set(finished)  # what is finished is not made again
    assert not list(folder.glob("ray/*/*/checkpoint_*"))
