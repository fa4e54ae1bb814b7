"""One process writes a run directory: a lock that a killed process, or a reboot, lets go of by itself."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasray.records.files import RunError, cannot_write
from nasray.records.identity import now

LOCK, OWNER = ".run.lock", ".run.owner"
"""Locked by the kernel; stands in for it where the file system has no locks."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_MAX_CLOCK_ERROR_S = 2.0

_held: dict[tuple[int, int], _KernelLock] = {}
_guard = threading.RLock()


class RunLock:
    """The right to write a run directory, until `release`, the end of this object, or the end of the process.

    The kernel keeps the lock (flock), so that a process that is killed, or a machine that is started again, lets go of
    it at once; processes that this one starts or forks do not have it. The process itself may take it several times,
    as when it goes on with a run that it made. Where the file system has no such locks, a file names the process
    instead: it is believed as long as that process lives on this machine, and always if it ran on another one.

    Network file systems that keep locks to each machine (NFS mounted with `nolock`) cannot tell of other machines.

    Args:
        folder: The run directory, which exists.

    Raises:
        RunError: If another process has the lock, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            held = _kernel_lock(folder)
        except OSError as error:
            raise cannot_write(folder / LOCK, error) from error
        self._finalizer = weakref.finalize(self, (_OwnerFile(folder) if held is None else held).let_go)

    def release(self) -> None:
        """Let others write; nothing happens if that was done before."""
        self._finalizer()


class _KernelLock:
    """A lock of this process, kept until all who took it let go."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.count = descriptor, 1

    def let_go(self) -> None:
        with _guard:
            self.count -= 1
            if self.count == 0 and self.descriptor >= 0:
                _held.pop(_identity(self.descriptor), None)
                os.ftruncate(self.descriptor, 0)
                os.close(self.descriptor)


def _kernel_lock(folder: Path) -> _KernelLock | None:
    """Take the kernel's lock; None where there are none."""
    if sys.platform == "win32":
        return None
    import fcntl

    # Not inherited by programs that are started (O_CLOEXEC), and closed in forked copies of this process.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with _guard:
        mine = _held.get(_identity(descriptor))
        if mine is not None:
            os.close(descriptor)
            mine.count += 1
            return mine
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise _in_use(folder, _parsed(owner)) from error
            if error.errno in _NO_LOCKS:
                return None
            raise
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(this_process()).encode(), 0)
        except OSError:
            os.close(descriptor)  # else this process would keep the lock and not know
            raise
        held = _held[_identity(descriptor)] = _KernelLock(descriptor)
        return held


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _after_fork() -> None:
    """Close what a forked copy inherited: else it would keep the lock of a parent that was killed."""
    global _guard
    _guard = threading.RLock()  # another thread may have had it
    for held in _held.values():
        os.close(held.descriptor)
        held.descriptor = -1
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _OwnerFile:
    """A file that names the process that writes, where the kernel has no lock for it."""

    def __init__(self, folder: Path) -> None:
        self._path, self._pid = folder / OWNER, os.getpid()
        owner = this_process()
        if not self._is_made(owner):
            self._take_over(folder, owner)

    def let_go(self) -> None:
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)

    def _is_made(self, owner: dict[str, Any]) -> bool:
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(owner))
        except FileExistsError:
            return False
        return True

    def _take_over(self, folder: Path, owner: dict[str, Any]) -> None:
        """Replace the file of a process of this machine that has ended, or of this process itself.

        Raises:
            RunError: If the process is alive, or of another machine.
        """
        found = _parsed(self._path.read_bytes())
        if found.get("host") != owner["host"]:
            raise RunError(
                f"{folder} was last written by {described(found)}, and this file system cannot tell whether that "
                f"process is alive. Make sure that it has ended, delete {self._path} and start again."
            )
        if found.get("pid") != owner["pid"] and is_alive(found):
            raise _in_use(folder, found)
        self._path.unlink(missing_ok=True)
        if not self._is_made(owner):
            raise _in_use(folder, _parsed(self._path.read_bytes()))


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others, as JSON."""
    import psutil

    created_s = psutil.Process().create_time()
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now(), "process_created_s": created_s}


def is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether a process of this machine lives; another one of the same number is not it."""
    import psutil

    try:
        created_s = psutil.Process(int(owner["pid"])).create_time()
        return abs(created_s - float(owner["process_created_s"])) < _MAX_CLOCK_ERROR_S
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def described(owner: Mapping[str, Any]) -> str:
    """Return how people call a process, of what `this_process` returned there."""
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"


def _in_use(folder: Path, owner: dict[str, Any]) -> RunError:
    return RunError(
        f"{folder} is being written by {described(owner)}. Wait for it, stop it, or choose another --run-dir."
    )
