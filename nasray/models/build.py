"""The plain network of an architecture, whatever its space."""

from __future__ import annotations

from torch import nn

from nasray.architecture import Architecture
from nasray.models.cell_network import CellNetwork
from nasray.models.chain_network import ChainNetwork
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.models.plain import PlainNetwork
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.multi_scale import MultiScaleSpace

PlannedImageSpace = MobileSpace | CellSpace | ChainSpace | MultiScaleSpace
"""Spaces that know the images of their networks, and plan networks before they are built."""

NetworkSpace = PlannedImageSpace | ElasticSpace
"""Spaces whose architectures can be built."""


class InfeasibleArchitectureError(ValueError):
    """An architecture of the space that cannot be built, for a reason of its own."""


def build_network(space: NetworkSpace, architecture: Architecture) -> nn.Module:
    """Return a network with fresh weights; its input is (B, C, H, W), its output logits (B, K).

    Raises:
        InfeasibleArchitectureError: If the architecture breaks a limit of its space.
    """
    match space:
        case MobileSpace():
            return PlainNetwork(space.plan(architecture))
        case CellSpace():
            return CellNetwork(space.plan(architecture))
        case MultiScaleSpace():
            return MultiScaleNetwork(space.plan(architecture))
        case ElasticSpace():
            built: nn.Module = space.build(architecture)
            return built
        case ChainSpace():
            plan = space.plan(architecture)
            if plan.infeasible_reason:
                raise InfeasibleArchitectureError(plan.infeasible_reason)
            return ChainNetwork(plan)
