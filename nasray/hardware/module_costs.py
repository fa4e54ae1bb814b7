"""What any module costs: multiply-adds, parameters, memory, latency. For networks that no search space describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from nasray.hardware.cost import CostValue
from nasray.hardware.counter import TORCH_COUNTER, count_macs, run_shadow
from nasray.hardware.latency import measure_latency


def module_costs(
    module: nn.Module, input_shape: Sequence[int], *, device: str = "cpu", latency_budget_s: float = 0.2
) -> dict[str, CostValue]:
    """Return the costs of a forward pass in eval mode. The module is left alone.

    Args:
        module: Any module of one input.
        input_shape: Shape of the input, batch first.
        device: Where latency is timed: "cpu" (one thread), "cuda" or "cuda:<index>".
        latency_budget_s: Seconds of samples; 0 leaves latency out.

    Returns:
        By name: `macs` of the whole batch, `parameters`, `memory_bytes`, and `latency_ms`.

    Raises:
        ValueError: If the device cannot be used.
    """
    costs = {
        "macs": _exact(count_macs(module, input_shape), "MACs", TORCH_COUNTER),
        "parameters": _exact(sum(p.numel() for p in module.parameters()), "parameters", "torch"),
        "memory_bytes": CostValue(
            value=_weight_bytes(module) + _largest_layer_bytes(module, input_shape),
            unit="bytes",
            source="weights plus the largest input and output of one layer",
            quality="predicted",
        ),
    }
    if latency_budget_s > 0:
        latency = measure_latency(module, input_shape, device=device, budget_s=latency_budget_s)
        costs["latency_ms"] = CostValue(
            value=latency.median_ms,
            unit="ms",
            source=f"{latency.device.describe()}, batch size {latency.batch_size}, {latency.repeats} repeats",
            quality="measured",
            spread=latency.spread_ms,
        )
    return costs


def _exact(value: int, unit: str, source: str) -> CostValue:
    return CostValue(value=value, unit=unit, source=source, quality="exact")


def _weight_bytes(module: nn.Module) -> int:
    return _bytes([*module.parameters(), *module.buffers()])


def _largest_layer_bytes(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the bytes of the largest input and output of one layer; what lives beside them is not seen."""
    sizes = [0]

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        # A view, as flattening gives, takes no memory of its own.
        apart = {tensor.untyped_storage()._cdata: tensor for tensor in [*_tensors(inputs), *_tensors(output)]}
        sizes.append(_bytes(apart.values()))

    def watch(shadow: nn.Module) -> AbstractContextManager[None]:
        sizes[:] = [0]
        for layer in shadow.modules():
            if not any(layer.children()):
                layer.register_forward_hook(note)
        return nullcontext()

    run_shadow(module, input_shape, watch)
    return max(sizes)


def _tensors(value: Any) -> list[Tensor]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [each for each in values if isinstance(each, Tensor)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
