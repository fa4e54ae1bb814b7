"""Export a network for use elsewhere, and prove that every file computes what the network computes.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nasray.architecture import Architecture
from nasray.models.export_files import (
    TOLERANCE,
    ExportReport,
    Predict,
    compare,
    example_images,
    may_be_replaced,
    missing_onnx_packages,
    replacing,
    torch_program,
    write_onnx,
    write_program,
)
from nasray.models.model_card import model_card
from nasray.models.plain import PlainNetwork
from nasray.models.stored_network import WEIGHTS_FILE, load_network, store_network
from nasray.spaces.mobile import MobileSpace

__all__ = ["TOLERANCE", "ExportReport", "export_network", "load_network"]


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
    images_BCHW = example_images(example_BCHW.detach().cpu())
    missing = missing_onnx_packages()
    with replacing(folder) as draft, torch.no_grad():
        store_network(shipped, architecture, draft)
        predicts: dict[str, Predict] = {WEIGHTS_FILE: load_network(draft)}
        program = torch_program(shipped, torch.zeros_like(images_BCHW))
        predicts["model.pt2"] = write_program(program, draft / "model.pt2")
        if onnx and not missing:
            predicts["model.onnx"] = write_onnx(program, draft / "model.onnx")
        differences = {
            name: compare(folder / name, predict, shipped, images_BCHW) for name, predict in predicts.items()
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
    if folder.exists() and not (folder.is_dir() and may_be_replaced(folder)):
        raise ValueError(
            f"`folder` must be new, empty or an earlier export, got {folder}, which holds other files. Choose another."
        )
