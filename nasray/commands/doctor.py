"""`nasray doctor`: what this machine offers to a search, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGES = ("nasray", "torch", "ray", "optuna", "codecarbon")
_EXTRAS = {
    "ONNX export": ("export", ("onnx", "onnxscript", "onnxruntime")),
    "dashboards": ("dashboard", ("optuna_dashboard", "aiohttp_cors")),
}
_MIN_FREE_GB = 5.0

Finding = dict[str, Any]
"""`what`, `found`, `is_fine`, and `remedy` where it is not."""


def findings(place: str = "world") -> list[Finding]:
    """Look at this machine; takes some seconds, starts nothing and writes nothing.

    Args:
        place: Country or region of the electricity.

    Raises:
        ValueError: If the place is unknown.
    """
    return [*_software(), *_devices(), *_meters(), *_room(), _intensity(place)]


def _finding(what: str, found: str, remedy: str | None = None) -> Finding:
    return {"what": what, "found": found, "is_fine": remedy is None, "remedy": remedy}


def _software() -> Iterator[Finding]:
    yield _finding("Python", f"{platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield _finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield _finding(name, "not installed", f"pip install {name}")
    for what, (extra, modules) in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        found = f"missing: {', '.join(missing)}" if missing else "installed"
        yield _finding(what, found, f'pip install "nasray[{extra}]"' if missing else None)


def _devices() -> Iterator[Finding]:
    import psutil
    import torch

    busy = psutil.cpu_percent(interval=0.5)
    cores = f"{os.cpu_count()} logical, {psutil.cpu_count(logical=False)} physical, {busy:.0f} % busy now"
    remedy = "Stop what else runs before latencies or energies are measured." if busy > 30 else None
    yield _finding("processors", cores, remedy)
    memory = psutil.virtual_memory()
    yield _finding("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    gpus = list(_gpus())
    yield from gpus or [_finding("GPUs", "none that NVML can ask")]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield _finding("torch on GPU", f"CUDA {torch.version.cuda}: {names}")
    elif gpus:
        yield _finding("torch on GPU", "this torch has no CUDA", "Install torch's CUDA build from pytorch.org.")


def _gpus() -> Iterator[Finding]:
    """Tell of each GPU its clocks, driver, and the processes on it."""
    try:
        import pynvml

        pynvml.nvmlInit()
        driver, count = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
    except Exception:  # NVML's own errors, or no module: either way there is no GPU that can be asked
        return
    for index in range(count):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        now, most = (
            ask(handle, pynvml.NVML_CLOCK_SM)
            for ask in (pynvml.nvmlDeviceGetClockInfo, pynvml.nvmlDeviceGetMaxClockInfo)
        )
        others = len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        text = f"{pynvml.nvmlDeviceGetName(handle)}, driver {driver}, {now} of {most} MHz, {others} process(es) on it"
        yield _finding(f"GPU {index}", text, "End other processes on it before measuring." if others else None)


def _meters() -> Iterator[Finding]:
    from nasray.carbon.sensors import find_sensors

    found = find_sensors()
    for sensor in found.sensors:
        is_counter, remedy = sensor.kind == "counter", None
        if not is_counter and sensor.domain == "cpu":
            remedy = "Energies are estimates. On bare metal: sudo chmod -R a+r /sys/class/powercap (RAPL)."
        yield _finding(f"energy of {sensor.domain}", f"{'counter' if is_counter else 'model'}: {sensor.source}", remedy)
    for domain, reason in found.unavailable.items():
        yield _finding(f"energy of {domain}", f"unavailable: {reason}")


def _room() -> Iterator[Finding]:
    for what, folder in (("disk here", Path.cwd()), ("disk of temporary files", Path(tempfile.gettempdir()))):
        free_gb = shutil.disk_usage(folder).free / 1e9
        remedy = "Ray and checkpoints need some GB: free the disk or use --run-dir." if free_gb < _MIN_FREE_GB else None
        yield _finding(what, f"{free_gb:.1f} GB free in {folder}", remedy)
    shared = Path("/dev/shm")
    if shared.is_dir():
        free_gb = shutil.disk_usage(shared).free / 1e9
        remedy = "Give it more (docker run --shm-size=4g): Ray keeps objects there." if free_gb < 1 else None
        yield _finding("shared memory", f"{free_gb:.1f} GB free", remedy)


def _intensity(place: str) -> Finding:
    from nasray.carbon.intensity import WORLD, carbon_intensity

    found = carbon_intensity(place)
    remedy = "Give --place, such as FRA or USA/California." if place == WORLD else None
    return _finding("CO2 of electricity", f"{found.g_per_kwh:.0f} g/kWh ({found.source})", remedy)
