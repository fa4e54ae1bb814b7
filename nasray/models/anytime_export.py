"""Export every exit of a network for use elsewhere, and prove that each file computes what the exit computes.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasray.models.anytime_budget import AnytimePredictor, ExitCosts
from nasray.models.anytime_policies import load_policies, store_policies
from nasray.models.anytime_thresholds import ExitPolicy
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
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.models.stored_network import ARCHITECTURE_FILE, WEIGHTS_FILE
from nasray.reading import build, read_json, reason, short
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan

SCHEMA_VERSION = 1


def export_exits(
    network: MultiScaleNetwork | MSDNet,
    folder: Path,
    *,
    example_BCHW: Tensor,
    card: Mapping[str, object],
    costs: ExitCosts | None = None,
    policies: Sequence[ExitPolicy] = (),
    onnx: bool = True,
) -> ExportReport:
    """Write a network as JSON and safetensors, and each exit alone as a torch.export program and as ONNX.

    `exit_1.pt2` and `exit_1.onnx` hold exit 1 and only what it needs; `exits.json` says what exits cost and from which
    confidence images leave. The batch size is free. Each file is loaded
    again and compared; the folder appears, or is replaced, only when all agree. The network itself is left alone.

    Args:
        network: Trained.
        folder: Where to; an earlier export there is replaced.
        example_BCHW: Real images (at least one) to compare outputs on.
        card: What card.md says beside costs: by label.
        costs: Of each exit; None for multiply-adds and parameters alone.
        policies: Confidence thresholds for several budgets.
        onnx: Whether to write ONNX; needs `nasray[export]`, and is skipped with a note without it.

    Raises:
        ValueError: If the images do not fit, or the folder holds other things.
        RuntimeError: If a file computes something else than the network.
    """
    _check_arguments(network, folder, example_BCHW)
    shipped = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    images_BCHW = example_images(example_BCHW.detach().cpu())
    missing = missing_onnx_packages() if onnx else []
    differences: dict[str, float] = {}
    with replacing(folder) as draft, torch.no_grad():
        _store(shipped, draft)
        store_policies(draft, costs or _closed_form(network.plan), policies)
        loaded = load_exits(draft)
        for exit in range(1, network.num_exits + 1):
            alone = shipped.exit_network(exit)
            predicts: dict[str, Predict] = {WEIGHTS_FILE: loaded.exit_network(exit)}
            program = torch_program(alone, torch.zeros_like(images_BCHW))
            predicts[f"exit_{exit}.pt2"] = write_program(program, draft / f"exit_{exit}.pt2")
            if onnx and not missing:
                predicts[f"exit_{exit}.onnx"] = write_onnx(program, draft / f"exit_{exit}.onnx")
            for name, predict in predicts.items():
                found = compare(folder / name, predict, alone, images_BCHW)
                differences[name] = max(found, differences.get(name, 0.0))
        (draft / "card.md").write_text(_card(shipped, card, policies), encoding="utf-8")
    return ExportReport(
        folder=folder,
        file_bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        differences=differences,
        skipped=(f"ONNX skipped: install nasray[export] (missing: {', '.join(missing)})",) if missing else (),
    )


def load_exits(folder: Path) -> MultiScaleNetwork | MSDNet:
    """Rebuild a network that `export_exits` stored, on the CPU and in eval mode.

    Raises:
        ValueError: If a file is missing or damaged, or the weights are another network's.
    """
    path = folder / ARCHITECTURE_FILE
    try:
        with torch.device("meta"):
            network = _build(build(dict[str, Any], read_json(path)))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must describe a network with exits, got: {reason(error)}. Export again.") from error
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE} must hold the weights of {ARCHITECTURE_FILE}, got: {reason(error)}. Export again."
        ) from error
    return network.requires_grad_(True).eval()


def load_predictor(folder: Path) -> AnytimePredictor:
    """Rebuild a network that `export_exits` stored, to predict within budgets.

    Raises:
        ValueError: If a file is missing or damaged, or the weights or the costs are another network's.
    """
    return AnytimePredictor(load_exits(folder), *load_policies(folder))


def _closed_form(plan: MultiScalePlan | MSDNetPlan) -> ExitCosts:
    exits = range(1, (plan.settings.blocks if isinstance(plan, MSDNetPlan) else plan.settings.exits) + 1)
    return ExitCosts(
        macs=tuple(map(plan.exit_macs, exits)),
        cumulative_macs=tuple(map(plan.cumulative_macs, exits)),
        parameters=tuple(map(plan.exit_parameters, exits)),
    )


def _check_arguments(network: MultiScaleNetwork | MSDNet, folder: Path, example_BCHW: Tensor) -> None:
    settings = network.plan.settings
    wanted = (settings.in_channels, settings.resolution, settings.resolution)
    if example_BCHW.ndim != 4 or len(example_BCHW) == 0 or tuple(example_BCHW.shape[1:]) != wanted:
        raise ValueError(
            f"`example_BCHW` must be at least one image of shape {wanted}, got shape {tuple(example_BCHW.shape)}. "
            "Pass a batch of the data set."
        )
    if folder.exists() and not (folder.is_dir() and may_be_replaced(folder)):
        raise ValueError(
            f"`folder` must be new, empty or an earlier export, got {folder}, which holds other files. Choose another."
        )


def _store(network: MultiScaleNetwork | MSDNet, folder: Path) -> None:
    value: dict[str, object] = {"schema_version": SCHEMA_VERSION, "settings": asdict(network.plan.settings)}
    if isinstance(network, MultiScaleNetwork):
        value |= {"family": "multi_scale", "genotype": network.plan.genotype.to_json()}
        value |= {"affine": network.affine, "has_pool_norm": network.has_pool_norm}
    else:
        value["family"] = "msdnet"
    (folder / ARCHITECTURE_FILE).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _build(value: Mapping[str, Any]) -> MultiScaleNetwork | MSDNet:
    if value.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"schema version {short(value.get('schema_version'))}, where {SCHEMA_VERSION} is known")
    if value.get("family") == "msdnet":
        return MSDNet(MSDNetPlan(build(MSDNetSettings, value.get("settings"))))
    if value.get("family") != "multi_scale":
        raise ValueError(f"family {short(value.get('family'))}, where multi_scale and msdnet are known")
    genotype, settings = Genotype.from_json(value.get("genotype")), build(MultiScaleSettings, value.get("settings"))
    affine, has_pool_norm = build(bool, value.get("affine")), build(bool, value.get("has_pool_norm"))
    return MultiScaleNetwork(
        MultiScalePlan(genotype=genotype, settings=settings), affine=affine, has_pool_norm=has_pool_norm
    )


def _card(network: MultiScaleNetwork | MSDNet, card: Mapping[str, object], policies: Sequence[ExitPolicy]) -> str:
    plan, settings = network.plan, network.plan.settings
    image = f"batch x {settings.in_channels} x {settings.resolution} x {settings.resolution}"
    lines = [f"# {type(network).__name__} with {network.num_exits} exits", "", "| | |", "|---|---|"]
    facts = {
        "Input": f"{image}, float32",
        "Output": f"batch x {settings.num_classes} logits",
    }
    lines += [f"| {_cell(label)} | {_cell(value)} |" for label, value in {**facts, **card}.items()]
    lines += ["", "| exit | multiply-adds | parameters |", "|---|---|---|"]
    for exit in range(1, network.num_exits + 1):
        lines.append(f"| {exit} | {plan.exit_macs(exit):,} | {plan.exit_parameters(exit):,} |")
    lines += ["", "Multiply-adds of convolutions and linear layers for one image, to this exit and to no other.", ""]
    lines += ["```python", "from nasray.models.anytime_export import load_predictor", ""]
    lines += ["predictor = load_predictor(folder)", "logits = predictor.predict(images, exit=1)"]
    lines += [f"logits = predictor.predict(images, budget_macs={plan.exit_macs(network.num_exits)})"]
    if policies:
        cheapest = min(policy.mean_macs for policy in policies)
        lines += ["# Each image leaves at the first exit that is sure of it:"]
        lines += [f"logits = predictor.predict_within_mean(images, mean_macs={math.ceil(cheapest)}).logits_BK"]
    return "\n".join([*lines, "```", ""])


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
