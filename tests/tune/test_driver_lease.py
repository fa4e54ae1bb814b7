"""One process goes on with a run on a storage."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasray.records import RunError
from nasray.tune import driver_lease
from nasray.tune.driver_lease import EXPIRES_S, FILE, DriverLease
from nasray.tune.storage_folder import StorageFolder

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from nasray.tune.driver_lease import DriverLease
from nasray.tune.storage_folder import StorageFolder
lease = DriverLease(StorageFolder.of(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return StorageFolder.of(f"file://{tmp_path}/run")


def test_another_process_is_refused_until_it_ends_or_is_killed(folder, tmp_path):
    for is_killed in (False, True):
        command = [sys.executable, "-c", HOLDER, f"file://{tmp_path}/run"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"is being written by process {holder.pid} on .*its lease expires in"):
            DriverLease(folder)
        if is_killed:
            holder.kill()
        holder.communicate()
        assert (FILE in folder.files()) == is_killed
        DriverLease(folder).release()
        assert folder.files() == []


@pytest.mark.parametrize("age_s", [0.0, EXPIRES_S - 5, EXPIRES_S + 5])
def test_a_lease_of_another_machine_is_over_when_it_was_not_renewed(folder, age_s):
    owner = {"pid": 1, "host": "there", "machine": "1", "token": "t", "renewed_s": time.time() - age_s}
    folder.write(FILE, json.dumps(owner).encode())
    if age_s > EXPIRES_S:
        DriverLease(folder).release()
    else:
        with pytest.raises(RunError, match="is being written by process 1 on there"):
            DriverLease(folder)
        assert json.loads(folder.read(FILE)) == owner


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"renewed_s": "x"}'])
def test_a_damaged_lease_is_nobodys(folder, content):
    folder.write(FILE, content)
    DriverLease(folder).release()


def test_a_lease_is_renewed_and_its_loss_is_said(folder, monkeypatch):
    monkeypatch.setattr(driver_lease, "_RENEWED_EVERY_S", 0.05)
    lease = DriverLease(folder)
    first = json.loads(folder.read(FILE))["renewed_s"]
    wait_for(lambda: read(folder).get("renewed_s", first) > first)
    lease.check()
    theirs = json.dumps({"token": "theirs", "renewed_s": time.time()}).encode()

    def is_lost():
        folder.write(FILE, theirs)  # again, as a renewal may have been on its way
        return lease._kept.is_lost

    wait_for(is_lost)
    with pytest.raises(RunError, match="was taken over by another process"):
        lease.check()
    lease.release()
    assert folder.read(FILE) == theirs


def test_a_lease_that_is_gone_is_not_taken_back(folder):
    lease = DriverLease(folder)
    folder.remove_file(FILE)  # as another process does that took it, went on, and ended
    assert not lease.holds() and lease.is_lost
    with pytest.raises(RunError, match="was taken over by another process"):
        lease.check()
    lease.release()
    assert folder.files() == []


def test_a_lease_that_expired_while_the_storage_was_away_goes_on_if_nobody_took_it(folder):
    lease = DriverLease(folder)
    owner = read(folder)
    lease._kept._renewed_s -= 2 * EXPIRES_S
    folder.write(FILE, json.dumps(owner | {"renewed_s": owner["renewed_s"] - 2 * EXPIRES_S}).encode())
    assert lease.holds()
    assert read(folder)["renewed_s"] >= owner["renewed_s"]  # nobody may take it now
    lease.check()
    lease.release()


@pytest.mark.parametrize("is_torn_by_itself", [True, False])
def test_a_torn_lease_is_ones_own_if_one_failed_to_write_it(folder, monkeypatch, is_torn_by_itself):
    lease, write = DriverLease(folder), StorageFolder.write

    def write_half(folder, name, content):
        write(folder, name, content[: len(content) // 2])
        raise OSError("no space left on device")

    if is_torn_by_itself:
        monkeypatch.setattr(StorageFolder, "write", write_half)
        with pytest.raises(OSError, match="no space left"):
            lease._kept.renew()
        monkeypatch.undo()
    else:
        folder.write(FILE, b"{")
    assert lease.holds() == is_torn_by_itself
    assert bool(read(folder)) == is_torn_by_itself
    lease.release()


def read(folder):
    try:
        return json.loads(folder.read(FILE))
    except ValueError:  # on a disk a reader may see a part
        return {}


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def test_a_storage_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be read or written"):
        DriverLease(StorageFolder.of(f"file://{tmp_path}/file"))
