"""What any module costs: multiply-adds, parameters, memory, latency. For networks that no search space describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
            value=_weight_bytes(module) + _largest_operation_bytes(module, input_shape),
            unit="bytes",
            source="weights plus the largest input and output of one operation",
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


def _largest_operation_bytes(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the bytes of the largest input and output of one operation; what lives beside them is not seen.

    Operations, not layers, are looked at: they are the same before and after an export, which has no layers left.
    """
    # Attention that is fused for inference hides operations that the export of the same network shows.
    was_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        found: _LargestOperation = run_shadow(module, input_shape, _LargestOperation)
        return found.bytes
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fused)


class _LargestOperation(TorchDispatchMode):
    """Notes the memory of the largest input and output of one operation, the weights of a network left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says nothing
        self.bytes = 0
        self._weights = {_place(tensor) for tensor in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        sizes: dict[int, int] = {}
        room: dict[int, int] = {}
        for tensor in tree_leaves((args, kwargs, output)):
            if isinstance(tensor, Tensor) and (place := _place(tensor)) not in self._weights:
                sizes[place] = sizes.get(place, 0) + _bytes([tensor])
                room[place] = tensor.untyped_storage().nbytes()
        # Views, as flattening and slicing give, take no memory of their own.
        self.bytes = max(self.bytes, sum(min(size, room[place]) for place, size in sizes.items()))
        return output


def _place(tensor: Tensor) -> int:
    place: int = tensor.untyped_storage()._cdata
    return place


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
