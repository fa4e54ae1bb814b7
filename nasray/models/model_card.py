"""The short text that goes with an exported network: what it is, what it costs, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nasray.architecture import Architecture
from nasray.spaces.network_plan import NetworkPlan

MAC_COUNTER = "convolutions and linear layers, one multiply-add = 1, batch size 1; counter nasray.spaces.network_plan"

# What a card should say, as keys of `card`; a figure that needs its condition names the key that holds it.
FIELDS: Mapping[str, str] = {
    "pixels": "Pixels",
    "data": "Data set",
    "accuracy": "Accuracy",
    "latency_ms": "Latency (ms)",
    "latency_device": "Latency measured on",
    "search": "Search",
    "search_time_s": "Search time (s)",
}

# How each file is read again, in Python.
LOADING: Mapping[str, str] = {
    "weights.safetensors": "from nasray.models.export import load_network\n\nnetwork = load_network(folder)",
    "model.pt2": 'import torch\n\nnetwork = torch.export.load(folder / "model.pt2").module()',
    "model.onnx": (
        'import onnxruntime\n\nsession = onnxruntime.InferenceSession(folder / "model.onnx")\n'
        '(logits,) = session.run(None, {"image": images})'
    ),
}


def model_card(plan: NetworkPlan, architecture: Architecture, card: Mapping[str, object], files: Sequence[str]) -> str:
    """Return a model card in Markdown.

    Args:
        plan: The network.
        architecture: Its architecture.
        card: Figures by the names in `FIELDS`; what is missing is said to be so, other names are shown as they are.
        files: The files written, for how to load them.

    Raises:
        ValueError: If a latency stands without its device.
    """
    if "latency_ms" in card and "latency_device" not in card:
        raise ValueError("`card` must name `latency_device` with `latency_ms`, got none. Add the device's description.")
    spec = plan.spec
    image = f"batch x {spec.in_channels} x {spec.resolution} x {spec.resolution}"
    rows = {
        "Architecture": f"{architecture.space}, {architecture.arch_id}",
        "Input": f"{image}, float32",
        "Output": f"batch x {plan.blocks[-1].layers[-1].filters} logits",
        "Multiply-adds": f"{plan.macs:,} ({MAC_COUNTER})",
        "Parameters": f"{plan.parameters:,}",
        **{label: card.get(name, "not recorded") for name, label in FIELDS.items()},
        **{name: value for name, value in card.items() if name not in FIELDS},
    }
    table = "\n".join(f"| {table_cell(name)} | {table_cell(value)} |" for name, value in rows.items())
    loading = "\n".join(f"`{name}`:\n\n```python\n{code}\n```\n" for name, code in LOADING.items() if name in files)
    return f"# {architecture.space} {architecture.arch_id}\n\n| | |\n|---|---|\n{table}\n\n## Loading\n\n{loading}"


def table_cell(value: object) -> str:
    """Return a value as the text of one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
