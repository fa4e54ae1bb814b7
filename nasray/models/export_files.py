"""The files of an export: written, loaded again, and compared with the network, whatever the network is.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nasray.models.stored_network import ARCHITECTURE_FILE

TOLERANCE = 1e-4
"""Largest difference between a file's output and the network's, relative to max(1, |output|)."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_BATCH_SIZES = (1, 3)

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export wrote.

    Args:
        folder: Where.
        file_bytes: Size of each file by name.
        differences: Largest relative difference to the network's output, by file.
        skipped: What was not written, why, and the remedy.
    """

    folder: Path
    file_bytes: Mapping[str, int]
    differences: Mapping[str, float]
    skipped: tuple[str, ...] = ()


def missing_onnx_packages() -> list[str]:
    """Return what `nasray[export]` would install for ONNX and is not there."""
    return [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]


def may_be_replaced(folder: Path) -> bool:
    """Return whether a folder is empty or an earlier export."""
    return (folder / ARCHITECTURE_FILE).exists() or not any(folder.iterdir())


def example_images(example_BCHW: Tensor) -> Tensor:
    """Return as many images as the largest batch that is compared, all different even if there is one example."""
    count = len(example_BCHW)
    return torch.stack([example_BCHW[i % count].roll(i // count, dims=-1) for i in range(max(_BATCH_SIZES))])


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a draft folder beside `folder` that takes its place at the end, or vanishes if anything fails."""
    draft, old = (folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.{end}") for end in ("tmp", "old"))
    draft.mkdir(parents=True)
    try:
        yield draft
        if folder.exists():
            folder.replace(old)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def torch_program(network: nn.Module, blank_BCHW: Tensor) -> ExportedProgram:
    """Trace the network with a free batch size.

    The file keeps the traced input, so it must be no one's picture; paths of this machine's files are left out.
    """
    with _quiet():
        program = torch.export.export(network, (blank_BCHW,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_program(program: ExportedProgram, path: Path) -> Predict:
    """Write a torch.export program, and return what it computes when it is loaded again."""
    with _quiet():
        torch.export.save(program, path)
        loaded: Predict = torch.export.load(path).module()
    return loaded


def write_onnx(program: ExportedProgram, path: Path) -> Predict:
    """Write a program as ONNX without this machine's paths, and return what onnxruntime computes with it."""
    import onnxruntime

    with _quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
        assert converted is not None
        for node in converted.model.graph.all_nodes():
            node.metadata_props.clear()
        converted.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(x_BCHW: Tensor) -> Tensor:
        (logits_BK,) = session.run(None, {"image": x_BCHW.numpy()})
        return torch.from_numpy(logits_BK)

    return predict


def compare(path: Path, predict: Predict, network: nn.Module, images_BCHW: Tensor) -> float:
    """Return the largest relative difference between a file's output and the network's, over the batch sizes.

    Raises:
        RuntimeError: If it is above the tolerance.
    """
    differences = []
    for size in _BATCH_SIZES:
        expected_BK = network(images_BCHW[:size])
        scale_BK = expected_BK.abs().clamp(min=1)
        differences.append(float(((predict(images_BCHW[:size]) - expected_BK).abs() / scale_BK).max()))
        if not differences[-1] <= TOLERANCE:  # NaN fails too
            raise RuntimeError(
                f"{path} must agree with the network within {TOLERANCE}, got a difference of {differences[-1]:.3g} at "
                f"batch size {size}. Nothing was written; export without this file or report the operator."
            )
    return max(differences)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporters say about their own insides; errors come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.simplefilter("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
