"""`nasray measure`: what a network costs on this machine."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def measure(
    model: str, *, input_shape: Sequence[int] | None, device: str = "cpu", measures_energy: bool = False
) -> list[dict[str, Any]]:
    """Return what a network costs: a row for each of multiply-adds, parameters, memory, latency and energy.

    Args:
        model: A folder that nasray exported, a .pt2 file, or "module:name" of a module's class or function without
            arguments that makes a network.
        input_shape: Shape of the input, batch first; an export knows its own.
        device: "cpu" (one thread), "cuda" or "cuda:<index>".
        measures_energy: Whether to measure energy too, half a minute, if the device has a counter.

    Raises:
        ValueError: If there is no such model, or its input is unknown.
    """
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's, about programs of its own
        return _measured(model, input_shape, device, measures_energy)


def _measured(
    model: str, input_shape: Sequence[int] | None, device: str, measures_energy: bool
) -> list[dict[str, Any]]:
    from nasray.hardware.inference_energy import has_counter, measure_inference_energy
    from nasray.hardware.module_costs import module_costs

    network, known = load_model(model)
    shape = tuple(input_shape or known or ())
    if not shape:
        raise ValueError(f"`--input` must give the shape of the input of {model}, such as 1,3,32,32; got none.")
    rows: list[dict[str, Any]] = [
        {"cost": name, "value": cost.value, "quality": cost.quality, "source": cost.source}
        for name, cost in module_costs(network, shape, device=device).items()
    ]
    if measures_energy:
        if not has_counter(device):
            raise ValueError(f"`--energy` needs an energy counter, and {device} has none; see `nasray doctor`.")
        energy = measure_inference_energy(network, shape, device=device)
        rows.append({"cost": "energy_mj", "value": energy.gross_mj, "quality": energy.quality, "source": energy.source})
    return rows


def load_model(model: str) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Return a network, and the shape of its input if that is known.

    Raises:
        ValueError: If there is no such model.
    """
    path = Path(model)
    if path.is_dir() and (path / "model.pt2").exists():
        path = path / "model.pt2"
    if path.suffix == ".pt2":
        return _program(path)
    name, _, attribute = model.partition(":")
    if not attribute:
        raise ValueError(f"`MODEL` must be an exported folder, a .pt2 file or module:name, got {model!r}.")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; an installed command has its own folder there
    try:
        made = getattr(importlib.import_module(name), attribute)()
    except Exception as error:  # somebody's own code can raise anything
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"`MODEL` must be module:name of a network without arguments, got {model!r}: {cause}."
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return made, None


def _program(path: Path) -> tuple[nn.Module, tuple[int, ...]]:
    import torch

    if not path.exists():
        raise ValueError(f"`MODEL` must be a file that exists, got {path}.")
    try:
        program = torch.export.load(path)
    except Exception as error:  # zip, JSON and torch's own errors alike say that it is no program
        raise ValueError(f"`MODEL` must be a program that torch.export wrote, got {path} ({error}).") from error
    inputs = [
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    shape = tuple(1 if index == 0 else int(size) for index, size in enumerate(inputs[0].meta["val"].shape))
    return program.module(check_guards=False), shape
