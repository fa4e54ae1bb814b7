"""Export any network of one image input, and prove that every file computes what the network computes.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.models.export_files import (
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
from nasray.models.model_card import LOADING, table_cell
from nasray.models.stored_network import ARCHITECTURE_FILE, WEIGHTS_FILE


def export_module(
    network: nn.Module,
    architecture: Architecture,
    folder: Path,
    *,
    example_BCHW: Tensor,
    card: Mapping[str, object],
    onnx: bool = True,
) -> ExportReport:
    """Write a network's architecture and state dict, a torch.export program, ONNX, and a card that says what it is.

    The batch size is free in the program and in ONNX. Both are loaded again and compared with the network; the folder
    appears, or is replaced, only when they agree. The network itself is left alone.

    Args:
        network: The trained network; its input is (B, C, H, W), its output (B, K).
        architecture: What it was built from.
        folder: Where to; an earlier export there is replaced.
        example_BCHW: Real images (at least one) to compare outputs on.
        card: What the card says, by what people read.
        onnx: Whether to write ONNX; needs `nasray[export]`, and is skipped with a note without it.

    Raises:
        ValueError: If there is no image, or the folder holds other things.
        RuntimeError: If a file computes something else than the network.
    """
    if example_BCHW.ndim != 4 or len(example_BCHW) == 0:
        raise ValueError(f"`example_BCHW` must be at least one image, got shape {tuple(example_BCHW.shape)}.")
    if folder.exists() and not (folder.is_dir() and may_be_replaced(folder)):
        raise ValueError(f"`folder` must be new, empty or an earlier export, got {folder}, which holds other files.")
    shipped = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    images_BCHW = example_images(example_BCHW.detach().cpu())
    missing = missing_onnx_packages()
    with replacing(folder) as draft, torch.no_grad():
        (draft / ARCHITECTURE_FILE).write_text(json.dumps(architecture.to_json(), indent=1) + "\n", encoding="utf-8")
        save_file({name: tensor.contiguous() for name, tensor in shipped.state_dict().items()}, draft / WEIGHTS_FILE)
        program, predicts = torch_program(shipped, torch.zeros_like(images_BCHW)), dict[str, Predict]()
        predicts["model.pt2"] = write_program(program, draft / "model.pt2")
        if onnx and not missing:
            predicts["model.onnx"] = write_onnx(program, draft / "model.onnx")
        differences = {
            name: compare(folder / name, predict, shipped, images_BCHW) for name, predict in predicts.items()
        }
        (draft / "card.md").write_text(_card(architecture, card, list(predicts)), encoding="utf-8")
    return ExportReport(
        folder=folder,
        file_bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        differences=differences,
        skipped=(f"ONNX skipped: install nasray[export] (missing: {', '.join(missing)})",) if onnx and missing else (),
    )


def _card(architecture: Architecture, card: Mapping[str, object], files: list[str]) -> str:
    rows = {**dict(architecture.items), **card}
    table = "\n".join(f"| {table_cell(name)} | {table_cell(value)} |" for name, value in rows.items())
    loading = "\n".join(f"`{name}`:\n\n```python\n{LOADING[name]}\n```\n" for name in files)
    return f"# {architecture.space} {architecture.arch_id}\n\n| | |\n|---|---|\n{table}\n\n## Loading\n\n{loading}"
