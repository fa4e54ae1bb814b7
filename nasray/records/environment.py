"""What a run ran on: software versions, the machine, and the commit of the code."""

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("nasray", "torch", "ray", "numpy")


def versions() -> dict[str, str | None]:
    """Return the versions of Python, the platform and the packages that decide a run's figures.

    Read from the installed metadata, so that nothing is imported; `None` for a package that is not installed.
    """
    return {"python": platform.python_version(), "platform": platform.platform()} | {
        name: _package_version(name) for name in _PACKAGES
    }


def machine() -> dict[str, Any]:
    """Return host name, processor model, logical cores, memory in bytes and GPU names (empty without one)."""
    import psutil

    return {
        "hostname": socket.gethostname(),
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": int(psutil.virtual_memory().total),
        "gpus": _gpu_names(),
    }


def git_commit() -> str | None:
    """Return the commit of nasray's own code, with "-dirty" if it was changed since; `None` outside a checkout.

    An installed copy that merely lies inside somebody's repository does not count: the repository has to track it.
    """
    if shutil.which("git") is None:
        return None
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError):
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    except (pynvml.NVMLError, OSError):
        return []
    finally:
        pynvml.nvmlShutdown()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
