"""Which device a latency belongs to."""

from __future__ import annotations

import functools
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from nasray.reading import build, short


@dataclass(frozen=True, kw_only=True)
class DeviceFingerprint:
    """Everything that must agree before two latencies may be compared.

    Args:
        kind: "cpu" or "cuda".
        model: Name of the processor or GPU.
        threads: Threads that torch computes with; `None` on a GPU.
        torch_version: Version of torch, build suffix included.
        dtype: Number format of weights and activations.
        system: Operating system and instruction set, such as "Linux x86_64".
    """

    kind: str
    model: str
    threads: int | None
    torch_version: str
    dtype: str = "float32"
    system: str

    @classmethod
    def of(cls, device: str = "cpu", *, threads: int | None = None) -> DeviceFingerprint:
        """Return the fingerprint of a device of this machine.

        Args:
            device: "cpu", "cuda" or "cuda:<index>".
            threads: Threads that torch computes with; `None` is their present number. A GPU has none.

        Raises:
            ValueError: If the device is neither a CPU nor a CUDA GPU that torch can use.
        """
        kind = check_device(device).type
        return cls(
            kind=kind,
            model=_cpu_model() if kind == "cpu" else torch.cuda.get_device_name(device),
            threads=(threads or torch.get_num_threads()) if kind == "cpu" else None,
            torch_version=str(torch.__version__),
            system=f"{platform.system()} {platform.machine()}",
        )

    def describe(self) -> str:
        """Return a short text such as "AMD EPYC (2 threads), torch 2.13.0+cpu"."""
        threads = "" if self.threads is None else f" ({self.threads} thread{'' if self.threads == 1 else 's'})"
        return f"{self.model}{threads}, torch {self.torch_version}"

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> DeviceFingerprint:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If `value` is anything else.
        """
        names = ", ".join(sorted(field.name for field in fields(cls)))
        try:
            return build(cls, value)
        except ValueError as error:
            raise ValueError(f"A device must be a JSON object with {names}, got {short(value)} ({error}).") from error


def check_device(device: str) -> torch.device:
    """Return a device that torch can time here.

    Raises:
        ValueError: If it is neither a CPU nor a CUDA GPU that torch can use.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"`device` must be cpu, cuda or cuda:<index>, got {device!r}.") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be cpu, cuda or cuda:<index>, got {device!r}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"`device` must be a GPU that torch sees, got {device!r}. Use device='cpu', or check CUDA.")
    return found


@functools.cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
