"""Export a network for use elsewhere, and prove that every file computes what the network computes.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from nasray.architecture import Architecture
from nasray.models.model_card import model_card
from nasray.models.plain import PlainNetwork
from nasray.models.stored_network import ARCHITECTURE_FILE, WEIGHTS_FILE, load_network, store_network
from nasray.spaces.mobile import MobileSpace

__all__ = ["TOLERANCE", "ExportReport", "export_network", "load_network"]

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


def export_network(
    network: PlainNetwork,
    architecture: Architecture,
    folder: Path,
    *,
    example_BCHW: Tensor,
    card: Mapping[str, object],
    onnx: bool = True,
) -> ExportReport:
    """Write a network as JSON and safetensors, as a torch.export program, as ONNX, and with a model card.

    The batch size is free in all of them. Each file is loaded again and compared with the network; the folder
    appears, or is replaced, only when all agree. The network itself is left alone.

    Args:
        network: The trained network.
        architecture: What it was built from.
        folder: Where to; an earlier export there is replaced.
        example_BCHW: Real images (at least one) to compare outputs on.
        card: What the model card says: see `nasray.models.model_card.FIELDS`.
        onnx: Whether to write ONNX; needs `nasray[export]`, and is skipped with a note without it.

    Raises:
        ValueError: If the architecture is another network's, the images do not fit, or the folder holds other things.
        RuntimeError: If a file computes something else than the network.
    """
    _check_arguments(network, architecture, folder, example_BCHW)
    shipped = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    images_BCHW = _images(example_BCHW.detach().cpu())
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    with _replacing(folder) as draft, torch.no_grad():
        store_network(shipped, architecture, draft)
        predicts: dict[str, Predict] = {WEIGHTS_FILE: load_network(draft)}
        program = _torch_program(shipped, torch.zeros_like(images_BCHW))
        predicts["model.pt2"] = _write_program(program, draft / "model.pt2")
        if onnx and not missing:
            predicts["model.onnx"] = _write_onnx(program, draft / "model.onnx")
        differences = {
            name: _compare(folder / name, predict, shipped, images_BCHW) for name, predict in predicts.items()
        }
        text = model_card(shipped.plan, architecture, card, list(predicts))
        (draft / "card.md").write_text(text, encoding="utf-8")
    return ExportReport(
        folder=folder,
        file_bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        differences=differences,
        skipped=(f"ONNX skipped: install nasray[export] (missing: {', '.join(missing)})",) if onnx and missing else (),
    )


def _check_arguments(network: PlainNetwork, architecture: Architecture, folder: Path, example_BCHW: Tensor) -> None:
    spec = network.plan.spec
    if MobileSpace(spec).plan(architecture) != network.plan:
        raise ValueError(
            f"`architecture` must be what the network was built from, got {architecture.arch_id}, which is another. "
            "Pass the architecture that was given to extract."
        )
    wanted = (spec.in_channels, spec.resolution, spec.resolution)
    if example_BCHW.ndim != 4 or len(example_BCHW) == 0 or tuple(example_BCHW.shape[1:]) != wanted:
        raise ValueError(
            f"`example_BCHW` must be at least one image of shape {wanted}, got shape {tuple(example_BCHW.shape)}. "
            "Pass a batch of the data set."
        )
    if folder.exists() and not (folder.is_dir() and _may_be_replaced(folder)):
        raise ValueError(
            f"`folder` must be new, empty or an earlier export, got {folder}, which holds other files. Choose another."
        )


def _may_be_replaced(folder: Path) -> bool:
    return (folder / ARCHITECTURE_FILE).exists() or not any(folder.iterdir())


def _images(example_BCHW: Tensor) -> Tensor:
    """Return as many images as the largest batch that is compared, all different even if there is one example."""
    count = len(example_BCHW)
    return torch.stack([example_BCHW[i % count].roll(i // count, dims=-1) for i in range(max(_BATCH_SIZES))])


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
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


def _torch_program(network: PlainNetwork, blank_BCHW: Tensor) -> ExportedProgram:
    """Trace the network with a free batch size.

    The file keeps the traced input, so it must be no one's picture; paths of this machine's files are left out.
    """
    with _quiet():
        program = torch.export.export(network, (blank_BCHW,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _write_program(program: ExportedProgram, path: Path) -> Predict:
    with _quiet():
        torch.export.save(program, path)
        loaded: Predict = torch.export.load(path).module()
    return loaded


def _write_onnx(program: ExportedProgram, path: Path) -> Predict:
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


def _compare(path: Path, predict: Predict, network: PlainNetwork, images_BCHW: Tensor) -> float:
    """Return the largest relative difference over the batch sizes."""
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
