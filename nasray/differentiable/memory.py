"""How much memory a search will need, known before it starts.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.spaces.multi_scale_layout import MultiScaleSettings

_COPIES = {1: 3, 2: 6}
"""Tensors of the weights' size: weights, gradients, momentum; to look ahead also a copy, a step and a direction."""

_SCRATCH = {1: 1.2, 2: 1.4}
"""What kernels and the allocator need besides, as measured on a CPU: 1.16 and 1.36."""


def search_memory_bytes(settings: MultiScaleSettings, *, batch_size: int, order: int = 1) -> int:
    """Return the bytes that a search step keeps: weights, gradients, optimizer, activations for the backward pass.

    A forward pass without data (on torch's meta device) tells which tensors are saved. Single precision is assumed;
    mixed precision needs about half for activations. A share for kernels and the allocator is added.
    """
    with torch.device("meta"):
        network = RelaxedNetwork(settings)
        images_BCHW = torch.empty(batch_size, settings.in_channels, settings.resolution, settings.resolution)
    activations = saved_bytes(network, images_BCHW.contiguous(memory_format=torch.channels_last))
    return round(_SCRATCH[order] * (activations + _COPIES[order] * 4 * network.num_weights))


def saved_bytes(network: RelaxedNetwork, images_BCHW: Tensor) -> int:
    """Return the bytes of tensors, parameters aside, that a forward pass keeps for the backward pass."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(saved: Tensor) -> Tensor:
        storages[saved.untyped_storage()._cdata] = saved.untyped_storage()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        outputs = network.train().all_exits(images_BCHW)
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    found = sum(storage.nbytes() for key, storage in storages.items() if key not in own)
    del outputs
    return found


def check_memory(
    settings: MultiScaleSettings, *, batch_size: int, order: int, device: torch.device, num_searches: int = 1
) -> int:
    """Return the bytes that a search needs if the device has them free for so many searches at a time.

    Raises:
        MemoryError: If it has not.
    """
    needed, free = search_memory_bytes(settings, batch_size=batch_size, order=order), free_memory_bytes(device)
    if num_searches * needed > free:
        steps = "a search step" if num_searches == 1 else f"steps of {num_searches} searches"
        raise MemoryError(
            f"`batch_size` must let {steps} fit into the {free / 2**30:.1f} GiB free on {device}, got {batch_size}, "
            f"which needs {num_searches * needed / 2**30:.1f} GiB. Take smaller batches, fewer channels or workers."
        )
    return needed


def free_memory_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU, or what is available on this machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
