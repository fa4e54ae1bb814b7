"""Runs that live on a storage: refused, killed, and brought back on another machine; on a disk and on S3."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import ray
from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
from rich.console import Console

from nasray.carbon.intensity import CarbonIntensity
from nasray.records import RunDirectory, RunError
from nasray.spaces.elastic_space import ElasticSpace, choice
from nasray.spaces.mobile_networks import mobile_8
from nasray.training.config import TrainingConfig
from nasray.training.jobs import SupernetJob
from nasray.tune.checkpoints import load_weights
from nasray.tune.energy.account import ClusterAccount
from nasray.tune.progress import StageProgress
from nasray.tune.record_mirror import RecordMirror
from nasray.tune.run_storage import _LATE, RunStorage, fetch
from nasray.tune.search_api import search
from nasray.tune.session import ClusterConfig, ray_session
from nasray.tune.stages import Stages
from nasray.tune.storage_folder import StorageFolder, child_of, is_uri, parent_of
from nasray.tune.workers import Workers

ROOT = Path(__file__).parents[2]
SECRET = "hunter2SECRET"
EPOCHS = 6


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """URI of a bucket of an S3 server on this machine."""
    server = shutil.which("moto_server")
    if server is None:
        pytest.skip("needs the command moto_server, of `pip install 'moto[server]'` in any environment on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    try:
        wait_for(lambda: answers(port))
        check_server(port)
        yield f"s3://key:{SECRET}@bucket/some/runs?{options}"
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(params=["disk", "s3"])
def uri(request, tmp_path):
    """URI of an empty storage."""
    if request.param == "disk":
        return f"file://{tmp_path}/storage"
    return child_of(request.getfixturevalue("s3"), tmp_path.name)


def check_server(port):
    """Make the bucket, and skip if pyarrow itself cannot write to it: moto 5.2.1 answers what it takes for an error."""
    bare = S3FileSystem(
        access_key="key",
        secret_key=SECRET,
        region="us-east-1",
        scheme="http",
        endpoint_override=f"127.0.0.1:{port}",
        allow_bucket_creation=True,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
    )
    bare.create_dir("bucket")
    try:
        with bare.open_output_stream("bucket/probe") as file:
            file.write(b"1")
    except OSError as error:
        pytest.skip(f"this moto_server does not take uploads of pyarrow ({error}); that of moto 5.2.5 does")


def answers(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, timeout_s=120.0):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.1)
    return found


def directory(path, *, resume=False):
    return RunDirectory.create(path, method="test", preset="", configuration={}, seed=0, data={}, resume=resume)


def stored(uri, path):
    """A run with its records on a storage."""
    storage = RunStorage.open(uri, path, resume=False)
    run = directory(path)
    storage.keep(run)
    return storage, run


def all_content(folder):
    """All that is in a folder of a storage, by path."""
    found = {f"{folder.path}/{name}": folder.read(name) for name in folder.files()}
    for name in folder.folders():
        found |= all_content(folder / name)
    return found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runs", r"must be a URI such as s3://bucket/runs, .* got runs \(URI has empty scheme"),
        ("foo://user:hunter2@x/y", r"must be a URI .* got foo://\*\*\*@x/y \(ArrowInvalid\)"),
        ("s3://key:hun/ter2@x/y", r"must be a URI .* got s3://\*\*\*@x/y \(ArrowInvalid\)"),
        ("file:///", r"must name a folder or a bucket, got file:///"),
    ],
)
def test_what_names_no_storage_is_refused_and_passwords_are_not_told(text, sentence):
    with pytest.raises(ValueError, match=rf"^`storage-path` {sentence}") as caught:
        StorageFolder.of(text)
    assert "ter2" not in str(caught.value) and caught.value.__cause__ is None


def test_uris_are_taken_apart_and_put_together():
    assert parent_of("s3://a:b@bucket/runs/one/?region=x") == ("s3://a:b@bucket/runs?region=x", "one")
    assert child_of("s3://bucket/runs?region=x", "one") == "s3://bucket/runs/one?region=x"
    assert is_uri("s3://bucket/a") and is_uri("fsspec+file:///a") and not is_uri("/a/b") and not is_uri("a:b")


@pytest.mark.parametrize("kind", ["", "file://", "fsspec+file://"])
def test_folders_of_all_kinds_behave_alike(tmp_path, kind):
    check_folder(StorageFolder.of(f"{kind}{tmp_path}/a"))


def test_a_folder_on_s3_behaves_like_one_on_a_disk(s3):
    check_folder(StorageFolder.of(s3) / "folder")


def check_folder(folder):
    assert (folder.files(), folder.folders()) == ([], [])
    (folder / "b" / "c").write("x.gz", b"1")  # nothing is unpacked
    folder.write("y", b"22")
    folder.write("y", b"333")
    assert (folder.files(), folder.folders(), (folder / "b" / "c").files()) == (["y"], ["b"], ["x.gz"])
    assert ((folder / "b" / "c").read("x.gz"), folder.read("y")) == (b"1", b"333")
    with pytest.raises(FileNotFoundError):
        folder.read("z")
    folder.remove_file("z")
    folder.remove_file("y")
    (folder / "b").remove()
    (folder / "b").remove()
    assert (folder.files(), folder.folders()) == ([], [])


def test_a_run_is_kept_and_found_again_under_its_name(uri, tmp_path):
    storage, run = stored(uri, tmp_path / "run")
    run.append_evaluations([{"sample_id": "1", "arch_id": "a", "status": "ok"}])
    assert storage.push()
    run.close()
    storage.close()
    with pytest.raises(RunError, match=r"/run already holds a run\. Add --resume"):
        RunStorage.open(uri, tmp_path / "elsewhere" / "run", resume=False)
    with pytest.raises(RunError, match=r"/none holds no run to resume"):
        RunStorage.open(uri, tmp_path / "none", resume=True)
    with pytest.raises(RunError, match=r"holds no run\. Name a run's folder"):
        fetch(child_of(uri, "none"), None)
    place, again = fetch(child_of(uri, "run"), tmp_path / "again"), tmp_path / "again"
    assert place == (again, uri)
    with pytest.raises(RunError, match="again holds a run already"):
        fetch(child_of(uri, "run"), again)
    back = RunStorage.open(uri, again, resume=True)
    assert back.folder.name == "run"  # whatever the run directory is called here
    back.keep(directory(again, resume=True))
    assert RunDirectory.open(again).evaluations() == run.evaluations()


def test_a_run_directory_that_was_left_behind_is_refused(tmp_path):
    uri = f"file://{tmp_path}/storage"
    storage, run = stored(uri, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps(run.run | {"updated": "2020-01-01T00:00:00+00:00"}))
    run.close()
    storage.close()
    with pytest.raises(RunError, match=r"must not be older than the run's records .*: the run went on elsewhere"):
        RunStorage.open(uri, tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run")
    RunStorage.open(uri, tmp_path / "run", resume=True).close()
    assert json.loads(path.read_text())["updated"] == run.run["updated"]


def test_another_run_of_the_same_name_is_not_overwritten(tmp_path):
    uri = f"file://{tmp_path}/storage"
    storage, run = stored(uri, tmp_path / "here" / "run")
    run.close()
    storage.close()
    directory(tmp_path / "there" / "run").close()
    path = tmp_path / "there" / "run" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": "2030-01-01T00:00:00+00:00"}))
    with pytest.raises(RunError, match=r"must hold the run of .*there/run, got another one of the same name"):
        RunStorage.open(uri, tmp_path / "there" / "run", resume=True)


def test_a_storage_around_or_inside_of_the_run_directory_is_refused(tmp_path):
    for storage in (tmp_path, tmp_path / "run", tmp_path / "run" / "copy"):
        with pytest.raises(ValueError, match="must lead out of the run directory"):
            RunStorage.open(f"file://{storage}", tmp_path / "run", resume=False)


def test_a_run_that_another_process_took_over_is_not_written(tmp_path, monkeypatch):
    storage, run = stored(f"file://{tmp_path}/storage", tmp_path / "run")
    before = all_content(storage.folder / "records")
    monkeypatch.setattr(storage._lease._kept, "is_lost", True)
    run.add_notice("later")
    assert not storage.push()
    for step in (storage.push_if_due, storage.finish):
        with pytest.raises(RunError, match="was taken over by another process"):
            step()
    storage.close()
    assert all_content(storage.folder / "records") == before


def test_a_run_that_another_process_took_over_and_finished_is_not_written(uri, tmp_path):
    def add(run, *numbers):
        run.append_evaluations([{"sample_id": str(n), "arch_id": f"a{n}", "status": "ok"} for n in numbers])

    first, first_run = stored(uri, tmp_path / "run")
    add(first_run, 0)
    assert first.push()
    # Its lease expires as it is cut off. Here the other one may take it as they are one process.
    second = RunStorage.open(uri, tmp_path / "second" / "run", resume=True)
    second_run = directory(tmp_path / "second" / "run", resume=True)
    second.keep(second_run)
    for number in range(1, 51):
        add(second_run, number)
        assert second.push()
    second.finish()
    second.close()
    second_run.close()

    add(first_run, 99)
    before = all_content(first.folder)
    assert not first.push()
    for step in (first.push_if_due, first.finish):
        with pytest.raises(RunError, match="was taken over by another process"):
            step()
    first.close()
    assert all_content(first.folder) == before
    third = RunStorage.open(uri, tmp_path / "third" / "run", resume=True)
    found = RunDirectory.open(tmp_path / "third" / "run").evaluations()
    assert [row["sample_id"] for row in found] == [str(number) for number in range(51)]
    third.close()


def test_a_storage_that_was_away_for_long_is_written_if_nobody_took_the_run(tmp_path, monkeypatch):
    storage, run = stored(f"file://{tmp_path}/storage", tmp_path / "run")
    kept, folder = storage._lease._kept, storage.folder
    read = StorageFolder.read

    def away(*arguments):
        raise OSError("no route to host")

    for name in ("read", "write", "files"):
        monkeypatch.setattr(StorageFolder, name, away)
    kept._renewed_s -= 1000.0
    assert not storage.push() and run.run["notices"] == [_LATE]
    storage.push_if_due()  # the run itself goes on
    monkeypatch.undo()
    owner = json.loads(read(folder, "lease.json"))
    folder.write("lease.json", json.dumps(owner | {"renewed_s": owner["renewed_s"] - 1000.0}).encode())
    storage.finish()
    assert json.loads(read(folder, "lease.json"))["renewed_s"] >= owner["renewed_s"]
    storage.close()
    run.close()


@pytest.mark.ray
def test_what_is_finished_is_kept_until_the_storage_has_it(cluster, tmp_path, monkeypatch):
    storage, run = stored(f"file://{tmp_path}/storage", tmp_path / "run")
    checkpoint = storage.folder / "ray" / "final-1" / "t" / "checkpoint_000000"
    checkpoint.write("progress.json", b"{}")
    with account(tmp_path) as charged:
        stages = Stages(run, quiet(), charged, storage=storage)
        monkeypatch.setattr(RecordMirror, "push", lambda mirror: False)
        stages.finish("final", "t", {"loss": 1.0})
        assert checkpoint.files() == ["progress.json"]
        assert run.run["notices"] == [_LATE]
        monkeypatch.undo()
        stages.finish("final", "t", {"loss": 1.0})
        assert checkpoint.files() == []
        monkeypatch.setattr(RecordMirror, "push", lambda mirror: False)
        with pytest.raises(RunError, match="cannot be written"):
            storage.finish()


class Design:
    def __init__(self, lanes=choice(1, 2, 4, 8), clock=choice(1, 2, 3, 4)): ...


def counted(folder):
    def figures(design):
        (folder / f"{design['lanes']}-{design['clock']}-{time.monotonic_ns()}").touch()
        return {"rate": design["lanes"] * design["clock"], "power": design["lanes"] + design["clock"]}

    return figures


@pytest.mark.ray
def test_a_search_goes_on_elsewhere_from_what_the_storage_has(cluster, uri, tmp_path):
    made = tmp_path / "made"
    made.mkdir()

    def run(run_dir, evaluations, **options):
        goals = ["maximize rate", "minimize power"]
        found = search(
            ElasticSpace(Design),
            counted(made),
            objectives=goals,
            strategy="random",
            evaluations=evaluations,
            run_dir=run_dir,
            workers=1,
            shows_progress=False,
            **options,
        )
        return [row["arch_id"] for row in found.run.evaluations()]

    whole = run(tmp_path / "whole", 9)
    first = run(tmp_path / "here" / "run", 5, storage_path=uri)
    shutil.rmtree(tmp_path / "here")
    num_made = len(list(made.iterdir()))
    assert run(tmp_path / "there" / "run", 9, storage_path=uri, resume=True) == whole
    assert whole[:5] == first and len(list(made.iterdir())) == num_made + 4
    assert SECRET.encode() not in b"".join(all_content(StorageFolder.of(uri)).values())
    assert (tmp_path / "there" / "run" / "report.html").read_bytes() in all_content(StorageFolder.of(uri)).values()


@dataclass(frozen=True)
class Noted:
    """A job that leaves a line for every epoch that it begins."""

    job: SupernetJob
    notes: Path

    @property
    def training(self):
        return self.job.training

    def final_metrics(self, running, data, place):
        return self.job.final_metrics(running, data, place)

    def start(self, data, place):
        running = self.job.start(data, place)
        run_epoch = running.run_epoch

        def noted():
            with self.notes.open("a") as file:
                file.write(f"{running.trainer.epoch}\n")
            return run_epoch()

        running.run_epoch = noted
        return running


def account(folder):
    return ClusterAccount(CarbonIntensity(g_per_kwh=400.0, source="test"), folder=folder, is_cross_checked=False)


def quiet():
    return StageProgress(Console(quiet=True), is_quiet=True)


def train(uri, run_dir, notes, *, resume=False):
    """Train a supernet in a run on a storage, or what is left of it."""
    from nasray.data import load_image_data

    storage = RunStorage.open(uri, run_dir, resume=resume) if uri else None
    run = directory(run_dir, resume=resume)
    if storage is not None:
        storage.keep(run)
    recipe = TrainingConfig(epochs=EPOCHS, batch_size=64)
    job = Noted(SupernetJob(network=mobile_8(), training=recipe, num_subnets=4), notes)
    with account(run_dir) as charged:
        stages = Stages(run, quiet(), charged, storage=storage)
        data = ray.put(load_image_data(None))
        folders = stages.train("supernet", {"net": job}, data, Workers(count=1, cpus=1, gpus=0))
    if storage is not None:
        storage.finish()
        storage.close()
    run.close()
    return load_weights(folders["net"])


@pytest.mark.slow
@pytest.mark.ray
def test_training_goes_on_elsewhere_after_its_driver_was_killed(cluster, uri, tmp_path):
    notes, here = tmp_path / "notes", tmp_path / "here" / "run"
    command = [sys.executable, __file__, uri, str(here), str(notes)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    folder = StorageFolder.of(uri) / "run" / "ray" / "supernet-1" / "net"

    def has_two():
        assert driver.poll() is None, "the driver ended before it was killed"
        return [name for name in folder.folders() if name.startswith("checkpoint_") and name > "checkpoint_000001"]

    try:
        wait_for(has_two)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not list(here.rglob("checkpoint_*"))  # none was on the lost machine
    shutil.rmtree(here.parent)
    before = notes.read_text().split()
    weights = train(uri, tmp_path / "there" / "run", notes, resume=True)
    after = notes.read_text().split()[len(before) :]
    assert 0 < len(after) < EPOCHS - 1 and after[-1] == str(EPOCHS - 1)
    whole = train(None, tmp_path / "whole", tmp_path / "others")
    assert {name: value.tobytes() for name, value in weights.items()} == {
        name: value.tobytes() for name, value in whole.items()
    }
    assert not [name for name in all_content(folder) if "checkpoint_" in name]  # finished
    (tmp_path / "there" / "run" / "run.json").unlink()
    record = fetch(child_of(uri, "run"), tmp_path / "third")[0] / "run.json"
    assert json.loads(record.read_text())["finished"]["supernet"]["net"]["loss"] > 0
    records = all_content(StorageFolder.of(uri) / "run" / "records")
    assert SECRET.encode() not in b"".join(records.values())


@pytest.mark.slow
@pytest.mark.long
def test_a_program_is_resumed_from_the_uri_of_its_run(uri, tmp_path):
    frame = pd.DataFrame([(a, b) for a in range(8) for b in range(8)], columns=["a", "b"])
    frame["cost"], frame["error"] = frame.a + frame.b, 1 / (1 + frame.a * frame.b)
    frame.to_csv(tmp_path / "nets.csv", index=False)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert SECRET not in done.stdout + done.stderr
        return done

    program = ROOT / "experiments" / "nsga2_pareto.py"
    options = ["--space", "tabular", "--table", "nets.csv", "--architecture", "a,b", "--minimize", "error,cost"]
    options += ["--no-progress"]
    whole = run(program, *options, "--run-dir", "whole", "--evaluations", 60)
    assert whole.returncode == 0, whole.stderr
    first = run(program, *options, "--run-dir", "here/one", "--storage-path", uri, "--evaluations", 55)
    assert first.returncode == 0, first.stderr
    shutil.rmtree(tmp_path / "here")
    finished = run("-m", "nasray.cli", "resume", child_of(uri, "one"), "--run-dir", "look")
    assert finished.returncode == 0 and "look is finished" in finished.stdout, finished.stderr
    done = run("-m", "nasray.cli", "resume", child_of(uri, "one"), "--evaluations", 60)
    assert done.returncode == 0, done.stderr
    assert "Brought back to runs/one." in done.stdout and "Storage: " in done.stdout
    rows = [
        [json.loads(line)["arch_id"] for line in (tmp_path / name / "evaluations.jsonl").read_text().splitlines()]
        for name in ("whole", "runs/one")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 60
    record = json.loads((tmp_path / "runs" / "one" / "run.json").read_text())
    assert record["status"] == "done" and record["storage_name"] == "one"
    refused = run("-m", "nasray.cli", "resume", "look", "--evaluations", 70)
    assert refused.returncode == 2 and "`--storage-path` writes to a storage and is not taken from" in refused.stderr
    behind = run("-m", "nasray.cli", "resume", "look", "--evaluations", 70, "--storage-path", uri)
    assert behind.returncode == 2 and "look must not be older than the run's records" in behind.stderr
    everything = all_content(StorageFolder.of(uri)) | {str(p): p.read_bytes() for p in tmp_path.rglob("*.json*")}
    assert SECRET.encode() not in b"".join(everything.values())


if __name__ == "__main__":
    with ray_session(ClusterConfig(num_cpus=1)):
        train(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        time.sleep(600)
