"""A disk that takes no more, at every write of a search: the run ends in one sentence, and goes on with room."""

import builtins
import errno
import io
import json
import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ray import tune
from rich.console import Console

from nasray.carbon.account import LocalAccount
from nasray.carbon.bill import Bill, StageEstimate
from nasray.carbon.intensity import CarbonIntensity
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.optuna_study import OptunaStrategy
from nasray.records import DiskError, RunDirectory
from nasray.records.disk import RESERVE_BYTES, has_reserve, keep_reserve
from nasray.records.files import write_whole
from nasray.records.lines import append_lines, read_lines
from nasray.report import write_report
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.tune import disk_space
from nasray.tune.batch_search import search_in_batches
from nasray.tune.candidate_search_run import run_search
from nasray.tune.cli_errors import exit_status
from nasray.tune.disk_space import DiskWatch, check_room, disk_error, folder_bytes, room_kept
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.program import recorded
from nasray.tune.progress import StageProgress
from nasray.tune.stages import Stages
from nasray.tune.workers import Workers

WANTED = Pareto([Objective(name="error"), Objective(name="cost")])


class FullDisk:
    """Lets writes into a folder fail from some number on, the failing ones after half of what they were to write."""

    def __init__(self, monkeypatch, folder):
        self.folder, self.num_writes, self.fails_from = str(folder), 0, None
        real = io.open

        def opened(path, mode="r", *arguments, **options):
            file = real(path, mode, *arguments, **options)
            is_ours = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder)
            return _File(file, self) if is_ours and set(mode) & set("wax+") else file

        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)

    def is_full(self):
        self.num_writes += 1
        return self.fails_from is not None and self.num_writes >= self.fails_from


class _File:
    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, content):
        if not self._disk.is_full():
            return self._file.write(content)
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def table():
    frame = pd.DataFrame([(a, b) for a in range(6) for b in range(6)], columns=["a", "b"])
    frame["cost"], frame["error"] = frame.a + 2.0 * frame.b, 1 / (1 + frame.a + frame.a * frame.b)
    return TabularSpace(frame, architecture="a,b", metrics=["cost", "error"])


def make_run(folder):
    return RunDirectory.create(
        folder,
        method="nsga2",
        preset="test",
        configuration={},
        seed=0,
        data={},
        resume=(folder / "run.json").exists(),
    )


def strategy_of(name, space, folder):
    generator = np.random.default_rng(0)
    if name == "nsga2":
        return OptunaStrategy(
            space,
            WANTED,
            num_evaluations=8,
            generator=generator,
            population_size=4,
            storage=folder / "optuna.log",
        )
    options = {"num_evaluations": 12, "population_size": 4, "tournament_size": 2}
    return AsynchronousEvolution(space, WANTED, generator=generator, **options)


def whole_search(name, folder):
    """Search, keep account and report, as programs do, or go on with it."""
    run, space = make_run(folder), table()
    try:
        with (
            recorded(run, Console(quiet=True)),
            LocalAccount(CarbonIntensity(g_per_kwh=400.0, source="test"), folder=folder) as account,
        ):
            search_in_batches(
                strategy_of(name, space, folder),
                lambda some: [Evaluation(metrics=space.metrics(each)) for each in some],
                run=run,
                progress=StageProgress(Console(quiet=True), is_quiet=True),
                batch_size=2,
                account=account,
            )
            run.write_front([objective.to_json() for objective in WANTED.objectives])
            run.update(status="done")
            write_report(run)
    finally:
        run.close()


def outcome(folder):
    """What a search leaves, without times."""
    rows = RunDirectory.open(folder).evaluations()
    kept = [(row["sample_id"], row["status"], row["metrics"]) for row in rows]
    front = json.loads((folder / "front.json").read_text())
    return kept, front["points"], RunDirectory.open(folder).run["status"], (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["evolution", "nsga2"])
def test_search_goes_on_after_a_full_disk_at_every_write(name, tmp_path, monkeypatch):
    # What reports draw is not of interest here, but that they are written.
    monkeypatch.setattr("nasray.report.page.render", lambda run: "report of " + run.run["status"])
    monkeypatch.setattr("nasray.records.disk.RESERVE_BYTES", 10)
    disk = FullDisk(monkeypatch, tmp_path)
    whole_search(name, tmp_path / "whole")
    num_writes, expected = disk.num_writes, outcome(tmp_path / "whole")
    assert num_writes > 25  # records, journal, state, front, account and report
    for number in range(1, num_writes + 1):
        folder = tmp_path / f"{number}"
        disk.num_writes, disk.fails_from = 0, number
        try:
            with pytest.raises(DiskError, match=r"cannot be written \(No space left on device\)\. Free .* --resume"):
                whole_search(name, folder)
        except pytest.fail.Exception:
            assert disk.num_writes < number  # states are saved when it is time: it had fewer writes than the first one
            continue
        disk.fails_from = None
        assert not list(folder.glob(".*.tmp")), number
        whole_search(name, folder)
        assert outcome(folder) == expected, number


def test_lines_are_appended_all_or_none(tmp_path, monkeypatch):
    disk, path = FullDisk(monkeypatch, tmp_path), tmp_path / "lines.jsonl"
    append_lines(path, ['{"number": 0}'])
    disk.fails_from = 0
    with pytest.raises(DiskError, match=r"lines\.jsonl cannot be written"):
        append_lines(path, [f'{{"number": {number}}}' for number in range(1, 9)])
    assert path.read_bytes() == b'{"number": 0}\n'
    disk.fails_from = None
    append_lines(path, [f'{{"number": {number}}}' for number in range(1, 9)])
    assert [row["number"] for _, row in read_lines(path)] == list(range(9))


def test_old_file_stays_and_the_reserve_goes(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.json", "old")
    keep_reserve(tmp_path)
    assert folder_bytes(tmp_path) == RESERVE_BYTES + 3
    FullDisk(monkeypatch, tmp_path).fails_from = 0
    with pytest.raises(DiskError, match=r"a\.json cannot be written"):
        write_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_no_room_for_the_reserve_is_said_before_anything_runs(tmp_path, monkeypatch):
    FullDisk(monkeypatch, tmp_path).fails_from = 0
    with pytest.raises(DiskError, match="cannot be written"), room_kept(tmp_path):
        raise AssertionError("the run has begun")
    assert not has_reserve(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b"), "/a/b cannot be written (Disk quota exceeded)"),
        (OSError(errno.EROFS, "Read-only file system"), "run cannot be written (Read-only file system)"),
        (RuntimeError("x\nnasray.records.files.DiskError: /c cannot be written (why). Go on.\n"), "/c cannot be"),
        ("pyarrow: OSError: [Errno 28] Error writing. Detail: [errno 28] No space left on device", "run, or the disk"),
        (RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed"), "run, or the disk"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "run, or the disk"),
    ],
)
def test_errors_of_the_disk_are_told_in_one_sentence(error, said):
    told = disk_error(error, Path("run"))
    assert str(told).startswith(said)
    assert "\n" not in str(told)


def test_cause_of_an_error_is_looked_at():
    error = RuntimeError("trial failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/a")
    assert str(disk_error(error, Path("run"))).startswith("/a cannot be written (No space left on device).")


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOENT, "No such file"), KeyError("disk")])
def test_other_errors_are_not_the_disks(error):
    assert disk_error(error, Path("run")) is None


def test_full_disk_is_exit_status_1_in_one_line(tmp_path, capsys):
    def program() -> None:
        raise DiskError("/a cannot be written.")

    assert exit_status(program, []) == 1
    assert capsys.readouterr().err == "Error: /a cannot be written.\n"


def bill(*stages):
    return Bill(
        stages=stages,
        intensity=CarbonIntensity(g_per_kwh=400.0, source="test"),
        pue=1.0,
        power_w=None,
        quality="unavailable",
        calibration="from nothing",
    )


def stage(disk_mb, more_mb=0):
    size = {"disk_bytes": disk_mb * 10**6, "checkpoint_bytes": more_mb * 10**6}
    return StageEstimate(name="a", evaluations=0, hours=0.0, energy_j=None, **size)


def test_room_is_asked_for_before_the_start(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: usage(500e6))
    # Weights of both stages, checkpoints of the one with more of them, the reserve; on the same disk, what Ray needs.
    check_room(bill(stage(100, 50), stage(100, 20)), tmp_path / "new" / "run")
    with pytest.raises(ValueError, match=r"`run-dir` must be on a disk with 510 MB free.* got 500 MB free in .*new"):
        check_room(bill(stage(200, 50), stage(101, 20)), tmp_path / "new" / "run")


def test_what_a_resumed_run_has_written_counts(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: usage(500e6))
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(10**9)
    check_room(bill(stage(1300)), tmp_path)


def test_limit_below_the_need_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`max-disk-gb` must be at least 0\.109, what the run .* got 0\.1\."):
        check_room(bill(stage(100)), tmp_path, max_disk_gb=0.1)
    check_room(bill(stage(100)), tmp_path, max_disk_gb=0.11)


def test_run_that_takes_more_than_its_limit_is_ended(tmp_path):
    run = make_run(tmp_path / "run")

    def grow():
        with recorded(run, Console(quiet=True), max_disk_gb=0.009):
            DiskWatch(run).raise_if_full()
            (run.path / "weights").write_bytes(bytes(10**6))
            DiskWatch(run).raise_if_full()

    with pytest.raises(DiskError, match=r"has taken 0\.0.* GB of the 0\.009 that --max-disk-gb allows"):
        grow()
    assert run.run["status"] == "interrupted"


class Unwritable(tune.Trainable):
    """A trial whose checkpoint finds no room."""

    def setup(self, config, tasks=None, filesystem=None):
        with tasks["a"].starts.open("a") as file:
            file.write("start\n")

    def step(self):
        return {"done": False}

    def save_checkpoint(self, checkpoint_dir):
        raise OSError(errno.ENOSPC, "No space left on device", f"{checkpoint_dir}/state.pt")

    def load_checkpoint(self, checkpoint):
        pass


class Task(namedtuple("Task", "starts")):
    def resources(self):
        return tune.PlacementGroupFactory([{"CPU": 1}])


def test_trial_that_cannot_write_its_checkpoint_ends_the_stage_at_once(cluster, tmp_path, capfd):
    run, starts = make_run(tmp_path / "run"), tmp_path / "starts"
    progress = StageProgress(Console(quiet=True), is_quiet=True)
    workers = Workers(count=1, cpus=1, gpus=0)

    def train():
        intensity = CarbonIntensity(g_per_kwh=400.0, source="test")
        account = ClusterAccount(intensity, folder=run.path, is_cross_checked=False)
        with recorded(run, Console(quiet=True)), account:
            Stages(run, progress, account).run_stage("final", Unwritable, {"a": Task(starts)}, workers, [])

    with pytest.raises(DiskError, match=r"state.pt cannot be written \(No space left on device\)\."):
        train()
    assert starts.read_text().count("start") <= 2  # Ray may have begun one of its three retries
    assert "Traceback" not in capfd.readouterr().err
    assert run.run["status"] == "interrupted"


def test_search_on_ray_goes_on_after_its_record_found_no_room(cluster, tmp_path, monkeypatch):
    space, workers = table(), Workers(count=1, cpus=1, gpus=0)
    lookup = {each.arch_id: space.metrics(each) for each in space.architectures}

    def evaluator():
        return lambda architecture: Evaluation(metrics=lookup[architecture.arch_id])

    def search(folder):
        run = make_run(folder)
        try:
            with recorded(run, Console(quiet=True)):
                strategy = strategy_of("evolution", space, folder)
                run_search(strategy, evaluator, workers=workers, run=run)
        finally:
            run.close()
        return [(row["sample_id"], row["metrics"]) for row in run.evaluations()]

    expected = search(tmp_path / "whole")
    real, appended = RunDirectory.append_evaluations, []

    def append(self, rows):
        appended.extend(rows)
        if len(appended) == 5:
            raise DiskError("evaluations.jsonl cannot be written.")
        real(self, rows)

    monkeypatch.setattr(RunDirectory, "append_evaluations", append)
    with pytest.raises(DiskError, match=r"^evaluations\.jsonl cannot be written\.$"):
        search(tmp_path / "run")
    assert search(tmp_path / "run") == expected
