"""The supernet: one set of weights for every architecture of a mobile search space.

Tensor letters: B images, C channels, H and W height and width, K classes, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.models.elastic import ElasticLayer, elastic_layer
from nasray.models.functions import add_padded
from nasray.models.plain import PlainNetwork
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import BlockPlan, NetworkPlan


class ElasticBlock(nn.Module):
    """The elastic layers of a block and its residual connection."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.has_residual = plan.spec.has_residual
        for layer in plan.layers:
            self.add_module(layer.spec.name, elastic_layer(layer))

    def layer(self, name: str) -> ElasticLayer:
        """Return a layer by its name in the block."""
        return self._modules[name]  # type: ignore[return-value]

    def forward(self, x_BCHW: Tensor, plan: BlockPlan) -> Tensor:
        """Compute one sub-network's block."""
        if plan.is_removed:
            return x_BCHW
        y_BCHW = x_BCHW
        for layer in plan.layers:
            y_BCHW = self.layer(layer.spec.name)(y_BCHW, layer)
        return add_padded(y_BCHW, x_BCHW) if self.has_residual else y_BCHW

    def forward_masked(self, x_BCHW: Tensor, sizes: dict[str, Tensor], removed_B: Tensor) -> Tensor:
        """Compute the block of each image's own sub-network; the branch of a removed block is zeroed."""
        y_BCHW = x_BCHW
        for name, layer in self._modules.items():
            filters_B, kernels_B = sizes[name]
            y_BCHW = layer.forward_masked(y_BCHW, filters_B, kernels_B)  # type: ignore[union-attr, operator]
        if not self.has_residual:
            return y_BCHW
        return add_padded(y_BCHW * (~removed_B).to(y_BCHW.dtype).view(-1, 1, 1, 1), x_BCHW)


class Supernet(nn.Module):
    """All sub-networks of a space with shared weights.

    `activate(architecture)` makes `forward` compute that sub-network, on slices of the weights; `extract` copies it
    into a plain network. Both agree in output and in cost. After construction the largest network is active.

    Args:
        space: The search space.

    Source: Yang et al. 2021, Sec. 2.1-2.3. Deviation: none.
    """

    def __init__(self, space: MobileSpace) -> None:
        super().__init__()
        self.space = space
        self.plan: NetworkPlan = space.plan(space.largest())
        self.blocks = nn.ModuleDict({block.spec.name: ElasticBlock(block) for block in self.plan.blocks})

    def activate(self, architecture: Architecture) -> None:
        """Choose the sub-network that `forward` computes."""
        self.plan = self.space.plan(architecture)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of the active sub-network."""
        return self.forward_planned(x_BCHW, self.plan)

    def forward_planned(self, x_BCHW: Tensor, plan: NetworkPlan) -> Tensor:
        """Return logits (B, K) of a planned sub-network, whichever is active."""
        for block in plan.blocks:
            x_BCHW = self.blocks[block.spec.name](x_BCHW, block)
        return x_BCHW

    def forward_masked(self, x_BCHW: Tensor, architectures: Sequence[Architecture]) -> Tensor:
        """Return logits (B, K), image i seen by the sub-network `architectures[i]`.

        Everything is computed at full width, then zeroed: the definition of ordered dropout, and the reference
        for the faster ways.

        Raises:
            ValueError: If there is not one architecture for each image.
        """
        if len(architectures) != x_BCHW.shape[0]:
            raise ValueError(
                f"`architectures` must name one for each of {x_BCHW.shape[0]} images, got {len(architectures)}."
            )
        plans = {architecture: self.space.plan(architecture) for architecture in set(architectures)}
        rows = torch.tensor([list(plans).index(architecture) for architecture in architectures])
        for index, (name, block) in enumerate(self.blocks.items()):
            assert isinstance(block, ElasticBlock)
            blocks = [plan.blocks[index] for plan in plans.values()]
            removed_B = torch.tensor([b.is_removed for b in blocks])[rows].to(x_BCHW.device)
            sizes = _sizes_by_layer(block, blocks, rows, x_BCHW.device)
            x_BCHW = self.blocks[name].forward_masked(x_BCHW, sizes, removed_B)  # type: ignore[operator]
        return x_BCHW

    def extract(self, architecture: Architecture) -> PlainNetwork:
        """Return a plain network with a copy of the sub-network's weights, in this supernet's mode (train or eval)."""
        plan = self.space.plan(architecture)
        with torch.device("meta"):
            network = PlainNetwork(plan)
        weights: dict[str, Tensor] = {}
        for block in plan.blocks:
            elastic = self.blocks[block.spec.name]
            assert isinstance(elastic, ElasticBlock)
            for layer in block.layers:
                for name, value in elastic.layer(layer.spec.name).sliced(layer).items():
                    copy = value.detach().clone(memory_format=torch.contiguous_format)
                    weights[f"blocks.{block.spec.name}.{layer.spec.name}.{name}"] = copy
        network.load_state_dict(weights, assign=True)
        return network.requires_grad_(True).train(self.training)


def _sizes_by_layer(
    block: ElasticBlock, plans: Sequence[BlockPlan], rows: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Return, by layer name, a (2, B) tensor: filters and kernel of each image; 0 filters where a layer is gone."""
    sizes = {}
    for name in block._modules:
        planned = [{layer.spec.name: layer for layer in plan.layers}.get(name) for plan in plans]
        filters = torch.tensor([layer.filters if layer else 0 for layer in planned])
        kernels = torch.tensor([layer.kernel if layer else 1 for layer in planned])
        full = next((layer.spec.kernel for layer in planned if layer), 1)
        kernels = torch.where(filters > 0, kernels, torch.tensor(min(3, full)))
        sizes[name] = torch.stack([filters, kernels])[:, rows].to(device)
    return sizes
