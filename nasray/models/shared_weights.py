"""One set of weights for all networks of an elastic space: each computes with a part of every tensor.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from nasray.architecture import Architecture
from nasray.spaces.elastic_space import ElasticSpace

_NO_KERNEL = 99
"""Dimension of the kernel of what has none."""

_MOST_SHELLS = 256
"""How many networks without weights are kept to compute with: a large space has more than memory holds."""


class SharedWeights(nn.Module):
    """The weights of the largest network of a space, of which every other network uses a part.

    A smaller tensor is the beginning of the larger one along every dimension, and the middle of it along a
    convolution's kernel. Matrices that PyTorch stacks in one tensor, as attention's queries, keys and values and the
    gates of recurrent layers, are cut each by itself. Modules that a network lacks are left out. Statistics of batch
    norms are shared in the same way; recalibrate them (`nasray.training.evaluate`) before comparing accuracies. Buffers
    that are not persistent are each network's own, as its constructor makes them.

    Args:
        space: Whose networks share.

    Raises:
        ValueError: If the largest or the smallest network cannot be built, or a network is no part of the largest one.

    Source: Yang et al. 2021 (NetAdaptV2), Sec. 2.3, ordered dropout. Deviation: any module, sliced by its tensors'
    shapes; one sub-network a pass instead of one for each image.
    """

    def __init__(self, space: ElasticSpace) -> None:
        super().__init__()
        self.space = space
        self.largest = _built(space, space.largest())
        self._layouts = _layouts(self.largest)
        self._shells: dict[Architecture, nn.Module] = {}
        with torch.random.fork_rng(devices=[]):  # what is no part fails now rather than after the training
            self._parts(_built(space, space.smallest()))
            self._shell(space.smallest())

    def run(self, architecture: Architecture, images_BCHW: Tensor) -> Tensor:
        """Return what a network of the space computes with its part of the weights, (B, K); gradients reach them."""
        shell = self._shell(architecture).train(self.training)
        own = {name: buffer.to(images_BCHW.device) for name, buffer in shell.named_buffers() if not buffer.is_meta}
        output: Tensor = functional_call(shell, {**self._parts(shell), **own}, (images_BCHW,))
        return output

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return a network of the space with a copy of its part of the weights."""
        network: nn.Module = self.space.build(architecture)
        tensors = _tensors(network)
        with torch.no_grad():
            for name, part in self._parts(network).items():
                tensors[name].copy_(part)
        return network

    def _shell(self, architecture: Architecture) -> nn.Module:
        """Return a network without weights of its own, to compute with given ones."""
        if architecture not in self._shells:
            if len(self._shells) >= _MOST_SHELLS:
                self._shells.clear()
            shell = _without_weights(lambda: self.space.build(architecture))
            self._parts(shell)
            self._shells[architecture] = shell
        return self._shells[architecture]

    def _parts(self, network: nn.Module) -> dict[str, Tensor]:
        whole, wanted = _tensors(self.largest), _once(_tensors(network))
        if missing := sorted(set(wanted) - set(whole)):
            raise ValueError(
                f"Networks of {self.space.name} must be parts of the largest one to share weights, but {missing[0]} is "
                "none of its tensors. Let options add modules at the end of a sequence, or train networks alone."
            )
        plain = (1, _NO_KERNEL)
        return {
            name: _part(name, whole[name], tensor, self._layouts.get(name, plain)) for name, tensor in wanted.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shells": {}}


def _built(space: ElasticSpace, architecture: Architecture) -> nn.Module:
    try:
        network: nn.Module = space.build(architecture)
    except Exception as error:
        raise ValueError(
            f"`network` of {space.name} must be made from all its choices to share weights, but "
            f"{dict(architecture.choices)} raised {type(error).__name__}: {error}."
        ) from error
    return network


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers; one that is tied stands under each of its names."""
    state = network.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without the further names of tied ones."""
    first = {id(tensor): name for name, tensor in reversed(tensors.items())}
    return {name: tensor for name, tensor in tensors.items() if first[id(tensor)] == name}


def _without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose parameters and persistent buffers take no memory; other tensors have their values."""
    try:
        with torch.device("meta"):
            network = build()
        if not _lacks_values(network):
            return network
    except Exception:  # such as that of `.item()` on a tensor without values; any other comes again below
        pass
    with torch.random.fork_rng(devices=[]):
        network = build()
    state = {id(tensor) for tensor in _tensors(network).values()}
    empty: dict[int, Any] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) in state:
                    tensors[name] = empty.setdefault(id(tensor), _emptied(tensor))
    return network


def _emptied(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _lacks_values(network: nn.Module) -> bool:
    """Return whether a network computes with tensors that no state dict has, and that were made without values."""
    for module in network.modules():
        buffers = [module._buffers[name] for name in module._non_persistent_buffers_set]
        plain = [value for value in vars(module).values() if isinstance(value, Tensor)]
        if any(tensor is not None and tensor.is_meta for tensor in (*buffers, *plain)):
            return True
    return False


def _layouts(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Return how tensors are cut that are not cut from the beginning alone, by name.

    Returns:
        How many matrices are stacked along the first dimension (attention's queries, keys and values, a recurrent
        layer's gates), and the first dimension of a kernel.
    """
    layouts: dict[str, tuple[int, int]] = {}
    for place, module in network.named_modules():
        names = [f"{place}.{name}" if place else name for name, _ in module.named_parameters(recurse=False)]
        if isinstance(module, _ConvNd):
            layouts |= {name: (1, 2) for name in names if name.endswith("weight")}
        stacked = 3 if isinstance(module, nn.MultiheadAttention | nn.GRU) else 4 if isinstance(module, nn.LSTM) else 1
        is_recurrent = isinstance(module, nn.RNNBase)
        layouts |= {name: (stacked, _NO_KERNEL) for name in names if is_recurrent or "in_proj_" in name}
    return layouts


def _part(name: str, whole: Tensor, wanted: Tensor, layout: tuple[int, int]) -> Tensor:
    """Return the part of a tensor that has another one's shape; a view, but of stacked matrices."""
    if whole.ndim != wanted.ndim or any(w > n for w, n in zip(wanted.shape, whole.shape, strict=False)):
        raise ValueError(
            f"A tensor must not be larger than that of the largest network, got {tuple(wanted.shape)} of {name} "
            f"against {tuple(whole.shape)}. Order options from the smallest to the largest."
        )
    stacked, first_of_kernel = layout
    if stacked > 1:
        pairs = zip(whole.chunk(stacked), wanted.chunk(stacked), strict=True)
        return torch.cat([_part(name, *pair, (1, first_of_kernel)) for pair in pairs])
    for dimension, size in enumerate(wanted.shape):
        rest = whole.shape[dimension] - size
        whole = whole.narrow(dimension, rest // 2 if dimension >= first_of_kernel else 0, size)
    return whole
