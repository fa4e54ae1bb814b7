"""The copy of a run's records: whole at any moment, whatever is killed, and never a way out of the run directory."""

import hashlib
import json
import shutil

import pytest

from nasray.records import RunError
from nasray.tune import record_mirror
from nasray.tune.record_mirror import RecordMirror, bring_back, has_records, read_record
from nasray.tune.storage_folder import StorageFolder


class Killed(BaseException):
    """Stands for the end of the process."""


def tree(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fill(run_dir, **texts):
    for name, text in texts.items():
        path = run_dir / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    fill(folder, run="{}", evaluations="1\n", models__a__card="card", models__b__card="card")
    return folder


@pytest.fixture
def remote(tmp_path):
    return StorageFolder.of(f"file://{tmp_path}/storage") / "run" / "records"


def test_what_is_brought_back_is_what_was_there(run_dir, remote, tmp_path):
    assert not has_records(remote)
    mirror, before = RecordMirror(run_dir, remote), tree(run_dir)
    fill(run_dir, ray__log="of Ray", **{".run.lock": "pid", "models__.x.tmp": "torn"})
    (run_dir / "link").symlink_to(run_dir / "run")
    assert mirror.push() and has_records(remote)
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == before
    assert len(remote.files()) == 1 and len((remote / "files").files()) == 3  # two cards alike


def test_only_changes_are_copied_and_what_is_gone_goes(run_dir, remote, tmp_path, monkeypatch):
    mirror, written = RecordMirror(run_dir, remote), []
    write = StorageFolder.write
    monkeypatch.setattr(StorageFolder, "write", lambda folder, *file: written.append(file) or write(folder, *file))
    mirror.push()
    num_first = len(written)
    mirror.push()
    assert len(written) == num_first == 4  # three contents and a manifest
    shutil.rmtree(run_dir / "models")
    fill(run_dir, evaluations="1\n2\n")
    RecordMirror(run_dir, remote).push()  # another process goes on
    assert len(written) == num_first + 2
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(run_dir)
    assert len(remote.files()) == 1 and len((remote / "files").files()) == 2


@pytest.mark.parametrize("is_torn", [False, True], ids=["object store", "disk"])
@pytest.mark.parametrize("number", range(7))
def test_a_process_that_is_killed_while_it_copies_leaves_one_copy_whole(
    run_dir, remote, tmp_path, monkeypatch, number, is_torn
):
    mirror, before, steps = RecordMirror(run_dir, remote), tree(run_dir), []
    mirror.push()
    shutil.rmtree(run_dir / "models" / "a")
    fill(run_dir, run='{"a": 1}', evaluations="1\n2\n", models__b__card="new")
    write, remove = StorageFolder.write, StorageFolder.remove_file

    def write_until_killed(folder, name, content):
        if len(steps) == number:
            if is_torn:
                write(folder, name, content[:-1])
            raise Killed
        steps.append(name)
        write(folder, name, content)

    def remove_until_killed(folder, name):
        if len(steps) == number:
            raise Killed
        steps.append(name)
        remove(folder, name)

    monkeypatch.setattr(StorageFolder, "write", write_until_killed)
    monkeypatch.setattr(StorageFolder, "remove_file", remove_until_killed)
    with pytest.raises(Killed):
        mirror.push()
    monkeypatch.undo()
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == (before if number < 4 else tree(run_dir))
    assert RecordMirror(run_dir, remote).push()
    bring_back(remote, tmp_path / "later")
    assert tree(tmp_path / "later") == tree(run_dir)
    assert len(remote.files()) == 1 and len((remote / "files").files()) == 3  # nothing is left over


def test_a_storage_that_is_away_is_written_later(run_dir, remote, tmp_path, monkeypatch):
    mirror = RecordMirror(run_dir, remote)

    def away(*arguments):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(StorageFolder, "write", away)
    assert not mirror.push() and mirror.problem == "no route to host"
    monkeypatch.undo()
    assert mirror.push() and mirror.problem is None
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(run_dir)


def test_a_copy_that_another_process_went_on_with_is_left_alone(run_dir, remote, tmp_path):
    mirror = RecordMirror(run_dir, remote)
    assert mirror.push()
    bring_back(remote, tmp_path / "theirs")
    fill(tmp_path / "theirs", evaluations="1\n2\n3\n")
    shutil.rmtree(tmp_path / "theirs" / "models")
    assert RecordMirror(tmp_path / "theirs", remote).push()
    fill(run_dir, evaluations="1\n4\n")
    for _ in range(2):
        assert not mirror.push() and mirror.is_overtaken and "another process" in mirror.problem
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "theirs")


@pytest.mark.parametrize("number", [0, 3])
def test_nothing_is_written_by_who_may_not(run_dir, remote, number):
    answers = iter([True] * number + [False] * 9)
    mirror = RecordMirror(run_dir, remote, lambda: next(answers))
    for _ in range(2):
        mirror.push()
        fill(run_dir, evaluations="1\n2\n")
    assert mirror.is_overtaken
    # The second push lost the right while it copied: what it copied is in no manifest.
    assert remote.files() == (["manifest-00000001.json"] if number else [])


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0], ids=["nothing", "torn", "whole"])
def test_manifests_that_failed_to_be_written_but_may_be_there_are_ones_own(
    run_dir, remote, tmp_path, monkeypatch, part
):
    mirror, write = RecordMirror(run_dir, remote), StorageFolder.write
    assert mirror.push()

    def fail_after(folder, name, content, part):
        if not name.startswith("manifest"):
            return write(folder, name, content)
        if part:
            write(folder, name, content[: int(part * len(content))])
        raise OSError("timed out")

    for number, written in enumerate((part, 0.0)):  # the second is another manifest, and is not there
        monkeypatch.setattr(StorageFolder, "write", lambda *file, written=written: fail_after(*file, written))
        fill(run_dir, evaluations=f"tried {number}\n")
        assert not mirror.push() and not mirror.is_overtaken and mirror.problem == "timed out"
        monkeypatch.undo()
    assert mirror.push()
    bring_back(remote, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(run_dir)


def test_copying_waits_its_time(run_dir, remote, monkeypatch):
    mirror, now, write_s = RecordMirror(run_dir, remote), [1000.0], 0.0
    monkeypatch.setattr(record_mirror.time, "monotonic", lambda: now[0])
    write = StorageFolder.write

    def take_time(folder, *file):
        now[0] += write_s
        write(folder, *file)

    monkeypatch.setattr(StorageFolder, "write", take_time)
    for write_s, waits_s in ((0.0, record_mirror.EVERY_S), (10.0, 400.0)):  # two files of ten seconds are a twentieth
        assert mirror.is_due()
        fill(run_dir, evaluations=f"{write_s}\n")
        mirror.push()
        now[0] += waits_s - 1
        assert not mirror.is_due()
        now[0] += 1
    assert mirror.is_due()


def test_a_record_is_read_by_its_path(run_dir, remote):
    RecordMirror(run_dir, remote).push()
    assert read_record(remote, "evaluations") == b"1\n"
    assert read_record(remote, "none") is None


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "ray/evil", ".run.lock", "a//b", "", "a/.hidden", "a\\b"]
)
def test_records_of_a_stranger_stay_in_the_run_directory(run_dir, remote, tmp_path, path):
    RecordMirror(run_dir, remote).push()
    remote.write("manifest-00000009.json", json.dumps({"files": {path: hashlib.sha256(b"card").hexdigest()}}).encode())
    bring_back(remote, tmp_path / "a" / "b" / "again")  # the manifest before is taken
    assert tree(tmp_path / "a" / "b" / "again") == tree(run_dir)
    assert not list(tmp_path.rglob("evil"))


def test_damage_is_said_and_makes_no_run(run_dir, remote, tmp_path):
    fill(run_dir, **{"run.json": "{}"})
    RecordMirror(run_dir, remote).push()
    digest = hashlib.sha256(b"card").hexdigest()
    (remote / "files").write(digest, b"car")
    with pytest.raises(RunError, match=r"card in file:///.*/records is missing or damaged"):
        bring_back(remote, tmp_path / "again")
    (remote / "files").remove_file(digest)
    shutil.rmtree(tmp_path / "again")
    with pytest.raises(RunError, match=r"card in .* is missing or damaged"):
        bring_back(remote, tmp_path / "again")
    assert not (tmp_path / "again" / "run.json").exists()
    with pytest.raises(RunError, match="again must be new or empty to bring a run back"):
        bring_back(remote, tmp_path / "again")
    with pytest.raises(RunError, match="holds no run that can be read"):
        bring_back(remote / "none", tmp_path / "none")
