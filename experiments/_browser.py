"""A headless Chromium that loads pages and answers what they show, over the DevTools protocol and a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_LAUNCH = (
    "import os, sys; i, o, *command = sys.argv[1:]; os.dup2(int(i), 3); os.dup2(int(o), 4); "
    "os.execv(command[0], command)"
)
"""Becomes the browser, whose ends of the protocol are file descriptors 3 and 4; here they may belong to others."""

_END = b"\0"


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A Chromium with one page; use it as a context.

    Args:
        path: Of the program, as `find_browser` returns it.
        timeout_s: How long to wait for an answer or for a page, in seconds.

    Attributes:
        problems: Console errors and warnings, uncaught exceptions and failed requests since the last `load`.
        requests: Addresses that the page asked for since the last `load`.
    """

    def __init__(self, path: str, *, timeout_s: float = 60.0) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._number, self._buffer = 0, b""
        self.problems: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        their_in, self._to = _pipe()
        self._from, their_out = _pipe()

        command = [sys.executable, "-c", _LAUNCH, str(their_in), str(their_out), self._path, *_FLAGS]
        command += [f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, pass_fds=(their_in, their_out), stdin=quiet, stdout=quiet, stderr=quiet
        )
        os.close(their_in)
        os.close(their_out)
        self._session: str | None = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            RuntimeError: If the browser answers with an error.
            TimeoutError: If it does not answer.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + _END)
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result

    def load(self, file: Path, *, until: str = "document.readyState === 'complete'") -> float:
        """Load a file, wait until an expression holds, and return how long that took, in seconds."""
        self.problems, self.requests = [], []
        start = time.perf_counter()
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait(until)
        return time.perf_counter() - start

    def wait(self, expression: str) -> None:
        """Wait until an expression of the page holds.

        Raises:
            TimeoutError: If it does not.
        """
        end = time.monotonic() + self._timeout_s
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"The page did not come to {expression} in {self._timeout_s:.0f} s.")
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression of the page, as JSON; promises are waited for.

        Raises:
            RuntimeError: If it throws.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        return answer["result"].get("value")

    def busy_s(self) -> float:
        """Return for how long the page's main thread has computed, in seconds; other work on the machine is not in it.

        Count from a call of `load` that `watch_time` came before.
        """
        metrics = self.call("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    def watch_time(self) -> None:
        """Begin to count for `busy_s`."""
        self.call("Performance.enable", timeDomain="threadTicks")

    def press(self, key: str) -> None:
        """Press and let go of a key, such as "Tab" or "ArrowDown"."""
        codes = {"Tab": 9, "Enter": 13, "ArrowDown": 40, "ArrowUp": 38}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def size(self, width: int, height: int, *, is_mobile: bool = False) -> None:
        """Set the size of the page in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_mobile
        )

    def color_scheme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, file: Path, *, is_whole: bool = False) -> None:
        """Write a PNG of what is visible, or of the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        while _END not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], self._timeout_s)
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("The browser did not answer. Try it by hand with --headless=new.")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(_END)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, event: Mapping[str, Any]) -> None:
        """Keep what went wrong, and what was asked for."""
        if method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(part.get("value", part.get("description"))) for part in event["args"]))
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(event["entry"]["text"])
        elif method == "Network.loadingFailed":
            self.problems.append(f"a request failed: {event['errorText']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends have higher numbers than those that the browser takes them under."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
