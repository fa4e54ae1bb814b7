"""Real Ray nodes on this machine, each a process tree of its own that can be killed without touching another Ray."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

import psutil

_START_S = 60.0
_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A dead node is noticed within about two seconds instead of fifteen.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    # What lost its cluster gives up after some seconds instead of a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}


class Raylet:
    """One `ray start --block` and all that it starts."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log: IO[bytes] = log.open("wb")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, "--block", "--disable-usage-stats"]
        self._process = subprocess.Popen(
            command, env=dict(environment), stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Of the command that holds the node."""
        return self._process.pid

    def kill(self) -> None:
        """End the node as a power cut would: everything at once, nothing is told."""
        kill_tree(self.pid)
        self._process.wait()
        self._log.close()

    def has_ended(self) -> bool:
        """Return whether the command has ended."""
        return self._process.poll() is not None


class TwoNodes:
    """A head and more nodes on free ports, for one user with one token. Use it as a context.

    Args:
        folder: For Ray's own files and logs; short, as paths of sockets may have about a hundred letters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{_free_port()}"
        # Processes of the nodes need the code and nothing else of this process's Ray.
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.write_text(os.urandom(32).hex(), encoding="utf-8")
        self.environment = {**own, **_SETTINGS, "PYTHONPATH": path, "RAY_AUTH_TOKEN_PATH": str(token)}
        self.nodes: list[Raylet] = []

    def start(self, *, cpus: int, resources: Mapping[str, float] | None = None) -> Raylet:
        """Start the head, or one more node beside it.

        Args:
            cpus: Processors that it offers.
            resources: What else it offers, by name.

        Raises:
            RuntimeError: If it does not come up.
        """
        own = ["--num-cpus", str(cpus), "--num-gpus", "0", "--resources", json.dumps(dict(resources or {}))]
        own += ["--object-store-memory", str(100 * 2**20)]
        port = self.address.rpartition(":")[2]
        first = ["--head", "--port", port, "--include-dashboard", "false", "--temp-dir", str(self.folder)]
        number = len(self.nodes)
        arguments = [*(first if number == 0 else ["--address", self.address]), *own]
        node = Raylet(arguments, self.environment, self.folder / f"node{number}.log")
        self.nodes.append(node)
        self._wait_for(node, self.folder / f"node{number}.log")
        return node

    def _wait_for(self, node: Raylet, log: Path) -> None:
        end = time.monotonic() + _START_S
        while "Ray runtime started" not in log.read_text(encoding="utf-8", errors="replace"):
            if node.has_ended() or time.monotonic() > end:
                raise RuntimeError(f"`ray start` did not come up:\n{log.read_text(encoding='utf-8', errors='replace')}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for node in reversed(self.nodes):
            node.kill()


def kill_tree(pid: int) -> None:
    """Kill a process and all below it."""
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree[1:], timeout=5)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
