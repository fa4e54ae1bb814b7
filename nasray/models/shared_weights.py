"""One set of weights for all networks of an elastic space: each computes with a part of every tensor.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nasray.architecture import Architecture
from nasray.spaces.elastic_space import ElasticSpace

_MOST_SHELLS = 256
"""How many networks without weights are kept to compute with: a large space has more than memory holds."""


class SharedWeights(nn.Module):
    """The weights of the largest network of a space, of which every other network uses a part.

    A smaller tensor is the beginning of the larger one along every dimension, and the middle of it along the kernel's
    (the last two of four, the last of three). Modules that a network lacks are left out. Statistics of batch norms are
    shared in the same way; recalibrate them (`nasray.models.functions`) before comparing accuracies.

    Args:
        space: Whose networks share.

    Raises:
        ValueError: If a network of the space is no part of the largest one.

    Source: Yang et al. 2021 (NetAdaptV2), Sec. 2.3, ordered dropout. Deviation: any module, sliced by its tensors'
    shapes; one sub-network a pass instead of one for each image.
    """

    def __init__(self, space: ElasticSpace) -> None:
        super().__init__()
        self.space = space
        self.largest = space.build(space.largest())
        self._shells: dict[Architecture, nn.Module] = {}
        self._shell(space.smallest())

    def run(self, architecture: Architecture, images_BCHW: Tensor) -> Tensor:
        """Return what a network of the space computes with its part of the weights, (B, K); gradients reach them."""
        shell = self._shell(architecture).train(self.training)
        output: Tensor = functional_call(shell, self._parts(shell), (images_BCHW,))
        return output

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return a network of the space with a copy of its part of the weights."""
        network: nn.Module = self.space.build(architecture)
        network.load_state_dict({name: part.detach().clone() for name, part in self._parts(network).items()})
        return network

    def _shell(self, architecture: Architecture) -> nn.Module:
        """Return a network without weights of its own, to compute with given ones."""
        if architecture not in self._shells:
            if len(self._shells) >= _MOST_SHELLS:
                self._shells.clear()
            with torch.device("meta"):
                shell = self.space.build(architecture)
            self._parts(shell)
            self._shells[architecture] = shell
        return self._shells[architecture]

    def _parts(self, network: nn.Module) -> dict[str, Tensor]:
        whole = {**dict(self.largest.named_parameters()), **dict(self.largest.named_buffers())}
        wanted = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        if missing := sorted(set(wanted) - set(whole)):
            raise ValueError(
                f"Networks of {self.space.name} must be parts of the largest one to share weights, but {missing[0]} is "
                "none of its tensors. Let options add modules at the end of a sequence, or train networks alone."
            )
        return {name: _part(name, whole[name], tensor) for name, tensor in wanted.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shells": {}}


def _part(name: str, whole: Tensor, wanted: Tensor) -> Tensor:
    """Return the part of a tensor that has another one's shape; a view."""
    if whole.ndim != wanted.ndim or any(w > n for w, n in zip(wanted.shape, whole.shape, strict=False)):
        raise ValueError(
            f"A tensor must not be larger than that of the largest network, got {tuple(wanted.shape)} of {name} "
            f"against {tuple(whole.shape)}. Order options from the smallest to the largest."
        )
    first_of_kernel = {3: 2, 4: 2, 5: 2}.get(whole.ndim, whole.ndim)
    for dimension, size in enumerate(wanted.shape):
        rest = whole.shape[dimension] - size
        whole = whole.narrow(dimension, rest // 2 if dimension >= first_of_kernel else 0, size)
    return whole
