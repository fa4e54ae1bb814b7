"""One process writes a run directory: who is refused, and when the lock is free again."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nasray.records import RunDirectory, RunError, lock

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from nasray.records.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
{then}
print("held", flush=True)
time.sleep(60)
"""


def create(path, *, resume=False):
    return RunDirectory.create(path, method="test", preset="", configuration={}, seed=0, data={}, resume=resume)


@pytest.fixture
def holder(tmp_path):
    """Starts processes that hold the lock of a run directory, and ends them."""
    started = []

    def start(folder, then=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(then=then), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_second_process_is_refused_and_told_who_writes(tmp_path, holder):
    create(tmp_path / "run").close()
    process = holder(tmp_path / "run")
    sentence = rf"run is being written by process {process.pid} on {socket.gethostname()} since 20.* Wait for it, stop"
    with pytest.raises(RunError, match=sentence):
        create(tmp_path / "run", resume=True)
    assert RunDirectory.open(tmp_path / "run").run["method"] == "test"  # readers need no lock
    with pytest.raises(RunError, match="already holds a run"):
        create(tmp_path / "run")


def test_killed_process_lets_go_at_once_whatever_it_started(tmp_path, holder):
    create(tmp_path / "run").close()
    # A program that was started without closing descriptors, and a forked copy, outlive it.
    then = "import os, subprocess; c = subprocess.Popen(['sleep', '30'], close_fds=False)"
    then += "\npid = os.fork() or time.sleep(30)"
    then += "\nPath(sys.argv[1], 'children').write_text(f'{c.pid} {pid}')"
    process = holder(tmp_path / "run", then)
    children = [int(text) for text in (tmp_path / "run" / "children").read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert all(psutil.pid_exists(pid) for pid in children)
        create(tmp_path / "run", resume=True).close()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def test_same_process_may_go_on_with_its_own_run(tmp_path, holder):
    first = create(tmp_path / "run")
    second = create(tmp_path / "run", resume=True)
    first.close()
    first.close()
    with pytest.raises(AssertionError):  # the second has it still: the other process ends with an error
        holder(tmp_path / "run")
    second.close()
    holder(tmp_path / "run")


def test_run_that_is_dropped_lets_go(tmp_path, holder):
    create(tmp_path / "run")
    gc.collect()
    holder(tmp_path / "run")


def test_create_that_fails_lets_go(tmp_path, holder):
    create(tmp_path / "run").close()
    for _ in range(2):
        with pytest.raises(RunError, match="seed was 0 and is now 3"):
            RunDirectory.create(
                tmp_path / "run", method="test", preset="", configuration={}, seed=3, data={}, resume=True
            )
    gc.collect()
    holder(tmp_path / "run")


@pytest.fixture
def no_kernel_lock(monkeypatch):
    """A file system without locks."""
    monkeypatch.setattr(lock, "_kernel_lock", lambda folder: None)


def owner(folder, **changes):
    """Write who writes a run directory: the process that started this one, unless it is changed."""
    parent = psutil.Process(os.getppid())
    found = {
        "pid": parent.pid,
        "host": socket.gethostname(),
        "since": "then",
        "process_created_s": parent.create_time(),
    }
    (folder / lock.OWNER).write_text(json.dumps(found | changes))


@pytest.mark.usefixtures("no_kernel_lock")
def test_without_kernel_locks_a_file_names_the_process(tmp_path):
    held = lock.RunLock(tmp_path)
    assert json.loads((tmp_path / lock.OWNER).read_text())["pid"] == os.getpid()
    held.release()
    assert not (tmp_path / lock.OWNER).exists()
    owner(tmp_path)
    with pytest.raises(RunError, match=rf"is being written by process {os.getppid()} on .* since then"):
        lock.RunLock(tmp_path)
    owner(tmp_path, host="elsewhere")
    with pytest.raises(
        RunError, match=r"cannot tell whether that process is alive. Make sure .* delete .*\.run\.owner"
    ):
        lock.RunLock(tmp_path)


@pytest.mark.usefixtures("no_kernel_lock")
@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"process_created_s": time.time() - 1e6}, {"pid": None}])
def test_without_kernel_locks_a_dead_process_is_succeeded(tmp_path, changes):
    owner(tmp_path, **changes)
    held = lock.RunLock(tmp_path)
    assert json.loads((tmp_path / lock.OWNER).read_text())["pid"] == os.getpid()
    held.release()
