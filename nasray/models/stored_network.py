"""A trained network on disk without pickle: architecture.json says what it is, weights.safetensors the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nasray.architecture import Architecture
from nasray.models.plain import PlainNetwork
from nasray.reading import build, read_json, reason, short
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import LayerPlan, NetworkPlan
from nasray.spaces.network_spec import NetworkSpec

SCHEMA_VERSION = 1
ARCHITECTURE_FILE = "architecture.json"
WEIGHTS_FILE = "weights.safetensors"


def store_network(network: PlainNetwork, architecture: Architecture, folder: Path) -> None:
    """Write architecture.json and weights.safetensors into an existing folder."""
    text = json.dumps(_description(network.plan, architecture), indent=1, allow_nan=False)
    (folder / ARCHITECTURE_FILE).write_text(text + "\n", encoding="utf-8")
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt", "arch_id": architecture.arch_id})


def load_network(folder: Path) -> PlainNetwork:
    """Rebuild a stored network on the CPU, in eval mode.

    Raises:
        ValueError: If a file is missing or damaged, or the weights are another network's.
    """
    plan = _read_plan(folder / ARCHITECTURE_FILE)
    with torch.device("meta"):
        network = PlainNetwork(plan)
    path = folder / WEIGHTS_FILE
    try:
        network.load_state_dict(load_file(path), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} must hold the weights of {ARCHITECTURE_FILE}, got: {reason(error)}. Export again."
        ) from error
    return network.requires_grad_(True).eval()


def _description(plan: NetworkPlan, architecture: Architecture) -> dict[str, object]:
    """Return what architecture.json holds; `network` and `architecture` rebuild it, the rest is for readers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "arch_id": architecture.arch_id,
        "architecture": architecture.to_json(),
        "in_channels": plan.spec.in_channels,
        "resolution": plan.spec.resolution,
        "num_classes": plan.blocks[-1].layers[-1].filters,
        "macs": plan.macs,
        "parameters": plan.parameters,
        "layers": [_summary(layer) for layer in plan.layers()],
        "network": asdict(plan.spec),
    }


def _summary(layer: LayerPlan) -> dict[str, object]:
    return {
        "name": layer.name,
        "kind": layer.spec.kind,
        "in_channels": layer.in_channels,
        "filters": layer.filters,
        "bypassed_channels": layer.bypassed_channels,
        "out_channels": layer.out_channels,
        "kernel": layer.kernel,
        "stride": layer.spec.stride,
        "in_size": layer.in_size,
        "macs": layer.macs,
    }


def _read_plan(path: Path) -> NetworkPlan:
    try:
        value = build(dict[str, Any], read_json(path))
        version = value.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, where {SCHEMA_VERSION} is known")
        space = MobileSpace(build(NetworkSpec, value.get("network")))
        architecture = Architecture.from_json(value.get("architecture"))
        space.check(architecture)
        if architecture.arch_id != value.get("arch_id"):
            raise ValueError(f"`arch_id` {short(value.get('arch_id'))}, which is not that of `architecture`")
        return space.plan(architecture)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must describe an exported network, got: {reason(error)}. Export again.") from error
