"""Processes that a search runs in, and what of them is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

_SOMETIMES = 0.15
"""Share of kills that hit a worker, and that hit the raylet."""


class Child:
    """A search in a process of its own."""

    def wait(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Wait for its end, or for something else, but not longer than some seconds."""
        end = time.monotonic() + seconds
        while self.status() is None and time.monotonic() < end and not is_enough():
            time.sleep(0.01)

    def status(self) -> int | None:
        """Return its exit status, None while it lives."""
        raise NotImplementedError

    def kill(self, generator: np.random.Generator) -> str:
        """Kill something of it and say what."""
        raise NotImplementedError

    def close(self) -> None:
        """End what is left of it."""
        raise NotImplementedError

    def errors(self) -> str:
        """Return the last line that it wrote to standard error."""
        return ""


class RayChild(Child):
    """A search on a Ray of its own."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True, env=os.environ | {"PYTHONPATH": path}
            )

    def status(self) -> int | None:
        """Return its exit status, None while it lives."""
        return self._process.poll()

    def kill(self, generator: np.random.Generator) -> str:
        """Kill a worker or the raylet now and then, else the driver with its process group."""
        where = generator.random()
        children = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            if where < _SOMETIMES and (workers := [child for child in children if _name(child).startswith("ray::")]):
                workers[int(generator.integers(len(workers)))].kill()
                return "worker"
            if where > 1 - _SOMETIMES and (raylets := [child for child in children if _name(child) == "raylet"]):
                raylets[0].kill()
                return "raylet"
        os.killpg(self._process.pid, signal.SIGKILL)
        return "driver"

    def close(self) -> None:
        """End the process group; Ray's own processes end with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def errors(self) -> str:
        """Return the last line that it wrote."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class ForkedChild(Child):
    """A search in a copy of this process, which starts at once."""

    def __init__(self, search: Callable[[], None]) -> None:
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                search()
                status = 0
            finally:
                os._exit(status)

    def status(self) -> int | None:
        """Return its exit status, None while it lives."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def kill(self, generator: np.random.Generator) -> str:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)
        return "driver"

    def close(self) -> None:
        """Kill it if it lives, and wait for its end."""
        if self.status() is None:
            os.kill(self._pid, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _name(process: psutil.Process) -> str:
    """Return what a process calls itself."""
    with contextlib.suppress(psutil.Error):
        return Path((process.cmdline() or [""])[0]).name if process.name() == "raylet" else " ".join(process.cmdline())
    return ""
