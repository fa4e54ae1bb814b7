"""One process goes on with a run on a remote storage: a lease that whoever looks after it keeps fresh."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

from nasray.reading import parse_json
from nasray.records import RunError
from nasray.records.lock import described, is_alive, this_process
from nasray.tune.storage_folder import StorageFolder, reaching

FILE = "lease.json"
EXPIRES_S = 120.0
"""Age at which a lease is nobody's, by the clocks of both machines."""
_RENEWED_EVERY_S = 30.0


class DriverLease:
    """The right to write a run's folder on a storage, until `release`, the end of this object, or of the process.

    Advisory: object stores have no locks, so that two processes that start within the same second may both believe
    that they hold it, until one sees at its next renewal that it does not (`check`). A process that was killed holds
    it until it expires, on its own machine not even that long. One that could not reach the storage for longer has the
    lease as before if nobody took it meanwhile, which is what `holds` finds out.

    Args:
        folder: The run's folder on the storage.

    Raises:
        RunError: If another process holds it, or the storage cannot be written.
    """

    def __init__(self, folder: StorageFolder) -> None:
        self._folder, self._kept = folder, _Kept(folder)
        with reaching(folder):
            owner = _owner(folder)
            if owner is not None and not _is_over(owner):
                raise _in_use(folder, owner)
            self._kept.renew()
            if not self.holds():
                raise _in_use(folder, _owner(folder) or {})
        threading.Thread(target=self._kept.keep, name="driver-lease", daemon=True).start()
        self._finalizer = weakref.finalize(self, self._kept.let_go)

    @property
    def is_lost(self) -> bool:
        """Whether another process took the run over."""
        return self._kept.is_lost

    def holds(self) -> bool:
        """Ask the storage whether the run is still this process's to write, and renew the lease if it is.

        Raises:
            OSError: If the storage does not answer.
        """
        self._kept.look()
        return not self.is_lost

    def lose(self) -> None:
        """Note that another process went on with the run, whatever the lease says."""
        self._kept.is_lost = True

    def check(self) -> None:
        """Make sure that nobody else took the run over, as another machine does when this one was cut off for long.

        Says what was found out so far, without asking the storage.

        Raises:
            RunError: If so.
        """
        if self.is_lost:
            raise RunError(
                f"{self._folder} was taken over by another process, as this one could not renew its lease for "
                f"{EXPIRES_S:g} seconds. The run goes on there, or ended there; nothing more is written by this one."
            )

    def release(self) -> None:
        """Let others go on with the run; nothing happens if that was done before."""
        self._finalizer()


class _Kept:
    """The lease as a thread keeps it, which must not keep `DriverLease` alive."""

    def __init__(self, folder: StorageFolder) -> None:
        self._folder, self._token = folder, uuid.uuid4().hex
        self._is_over = threading.Event()
        # Two threads look; the end of `DriverLease` may come in the middle of either's look.
        self._lock = threading.RLock()
        self._is_torn = False
        self._renewed_s = 0.0
        self.is_lost = False

    def renew(self) -> None:
        content = {**this_process(), "machine": _MACHINE, "token": self._token, "renewed_s": time.time()}
        self._is_torn = True  # unless it succeeds
        self._folder.write(FILE, json.dumps(content).encode())
        self._is_torn, self._renewed_s = False, time.monotonic()

    def look(self) -> None:
        with self._lock:
            if self.is_lost or self._is_over.is_set():
                return
            if not self._is_mine():
                self.is_lost = True
            elif self._is_torn or time.monotonic() - self._renewed_s >= _RENEWED_EVERY_S / 2:
                self.renew()

    def _is_mine(self) -> bool:
        """Whether the lease has this process's token: none at all means that another process had it, and ended."""
        try:
            owner = _read(self._folder)
        except FileNotFoundError:
            return False
        return self._is_torn if owner is None else owner.get("token") == self._token

    def keep(self) -> None:
        while not self._is_over.wait(_RENEWED_EVERY_S) and not self.is_lost:
            with contextlib.suppress(OSError):  # tried again, until the storage answers
                self.look()

    def let_go(self) -> None:
        self._is_over.set()
        with self._lock, contextlib.suppress(OSError):  # then it expires
            if not self.is_lost and self._is_mine():
                self._folder.remove_file(FILE)


_MACHINE = f"{uuid.getnode():x}"


def _owner(folder: StorageFolder) -> dict[str, Any] | None:
    """Return what the lease says; None if there is none, or a crash tore it."""
    try:
        return _read(folder)
    except FileNotFoundError:
        return None


def _read(folder: StorageFolder) -> dict[str, Any] | None:
    """Return what the lease says; None if a crash tore it."""
    content = folder.read(FILE)
    try:
        owner = parse_json(content)
    except ValueError:
        return None
    return owner if isinstance(owner, dict) else None


def _is_over(owner: Mapping[str, Any]) -> bool:
    """Whether a lease is of this process, of one of this machine that has ended, or has expired."""
    process = this_process()
    if (owner.get("host"), owner.get("machine")) == (process["host"], _MACHINE):
        is_mine = all(owner.get(key) == process[key] for key in ("pid", "process_created_s"))
        return is_mine or not is_alive(owner)
    return _age_s(owner) > EXPIRES_S


def _age_s(owner: Mapping[str, Any]) -> float:
    renewed_s = owner.get("renewed_s")
    return time.time() - renewed_s if isinstance(renewed_s, int | float) else float("inf")


def _in_use(folder: StorageFolder, owner: Mapping[str, Any]) -> RunError:
    left_s = max(1.0, EXPIRES_S - _age_s(owner))
    return RunError(
        f"{folder} is being written by {described(owner)}. Wait for it or stop it; if it was killed, its lease expires "
        f"in {left_s:.0f} seconds."
    )
