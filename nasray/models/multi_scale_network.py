"""Networks of MS-RANAS and DARTS, built from a plan, with exits that compute only what they need.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasray.models.anytime import IMAGE, AnytimeNetwork
from nasray.models.darts_operations import FactorizedReduce, ReluConvNorm, drop_path, operation
from nasray.spaces.genotype import NUM_INPUTS, CellEdges
from nasray.spaces.multi_scale_layout import AUXILIARY_STRIDES, MultiScaleSettings, Position
from nasray.spaces.multi_scale_plan import MultiScalePlan

AUXILIARY = "auxiliary"
"""Name of the auxiliary head among the parts of a network."""


class CellInputs(nn.Module):
    """Bring what a cell reads to its channels: horizontal convolutions, and diagonal ones from the finer scale.

    Takes what stands at `settings.inputs(position)`: two layers back, one layer back and, below scale 0, one layer
    back at the next finer scale. Gives the cell's nodes 0 and 1, both (B, cell_channels, H, W).

    Source: Cioflan and Timofte 2020, Sec. 3.2. Deviation: see `MultiScaleSettings`.
    """

    def __init__(self, settings: MultiScaleSettings, position: Position, *, affine: bool = True) -> None:
        super().__init__()
        two_back, previous, *finer = settings.inputs(position)
        channels = settings.cell_channels(position.layer)
        diagonal = channels // 2 if finer else 0
        first = FactorizedReduce if settings.is_after_halving(position.layer) else ReluConvNorm
        self.two_back = first(settings.width(two_back), channels, affine=affine)
        self.horizontal = ReluConvNorm(settings.width(previous), channels - diagonal, affine=affine)
        self.diagonal = FactorizedReduce(settings.width(finer[0]), diagonal, affine=affine) if finer else None

    def forward(
        self, two_back_BCHW: Tensor, previous_BCHW: Tensor, finer_BCHW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return nodes 0 and 1."""
        first_BCHW, second_BCHW = self.two_back(two_back_BCHW), self.horizontal(previous_BCHW)
        if self.diagonal is not None and finer_BCHW is not None:
            second_BCHW = torch.cat([self.diagonal(finer_BCHW), second_BCHW], dim=1)
        return first_BCHW, second_BCHW


class DerivedCell(nn.Module):
    """A cell of a genotype with the convolutions in front of it; takes what `CellInputs` takes.

    `drop_probability` is that of dropping an edge (never an identity) for an image in training.
    """

    def __init__(
        self,
        settings: MultiScaleSettings,
        position: Position,
        edges: CellEdges,
        *,
        affine: bool = True,
        has_pool_norm: bool = False,
    ) -> None:
        super().__init__()
        self.enter = CellInputs(settings, position, affine=affine)
        self.sources = [edge.source for node in edges for edge in node]
        self.drop_probability = 0.0
        channels = settings.cell_channels(position.layer)
        reduction_stride = 2 if settings.is_reduction(position.layer) else 1
        self.operations = nn.ModuleList(
            operation(
                edge.operation,
                channels,
                reduction_stride if edge.source < NUM_INPUTS else 1,
                affine=affine,
                has_pool_norm=has_pool_norm,
            )
            for node in edges
            for edge in node
        )

    def forward(self, *inputs_BCHW: Tensor) -> Tensor:
        """Return the concatenated intermediate nodes, (B, num_nodes * channels, H/stride, W/stride)."""
        nodes = list(self.enter(*inputs_BCHW))
        terms: list[Tensor] = []
        for source, module in zip(self.sources, self.operations, strict=True):
            term_BCHW = module(nodes[source])
            if self.training and self.drop_probability > 0 and not isinstance(module, nn.Identity):
                term_BCHW = drop_path(term_BCHW, self.drop_probability)
            terms.append(term_BCHW)
            if len(terms) == 2:
                nodes.append(terms[0] + terms[1])
                terms.clear()
        return torch.cat(nodes[NUM_INPUTS:], dim=1)


class MultiScaleNetwork(AnytimeNetwork):
    """The network of a plan; takes (B, in_channels, resolution, resolution), gives logits (B, K).

    Args:
        plan: Genotype and layout.
        affine: Whether batch norms have a learned scale and shift; False to take weights over from a search.
        has_pool_norm: Whether a batch norm follows a pooling in a cell; True to take weights over from a search.

    Source: Cioflan and Timofte 2020 (MS-RANAS), Sec. 3; Liu et al. 2019 (DARTS), published code. Deviation: see
    `MultiScaleSettings`.
    """

    def __init__(self, plan: MultiScalePlan, *, affine: bool = True, has_pool_norm: bool = False) -> None:
        settings = plan.settings
        parts: dict[str, nn.Module] = {}
        for position in settings.positions:
            parts[part_name(position)] = (
                build_stem(settings, position, affine=affine)
                if position.layer < 0
                else DerivedCell(
                    settings,
                    position,
                    plan.genotype.cell(is_reduction=settings.is_reduction(position.layer)),
                    affine=affine,
                    has_pool_norm=has_pool_norm,
                )
            )
        for exit in range(1, settings.exits + 1):
            parts[f"exit_{exit}"] = Classifier(settings.width(settings.exit_position(exit)), settings.num_classes)
        if settings.has_auxiliary:
            parts[AUXILIARY] = AuxiliaryHead(settings)
        super().__init__(parts, part_inputs(settings), [f"exit_{exit}" for exit in range(1, settings.exits + 1)])
        self.plan, self.affine, self.has_pool_norm = plan, affine, has_pool_norm

    def with_auxiliary(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) of the last exit and of the auxiliary head.

        Raises:
            ValueError: If the network has no auxiliary head.
        """
        if AUXILIARY not in self.parts:
            raise ValueError("The network must be built with `has_auxiliary`, got one without. Change its settings.")
        auxiliary_BK, logits_BK = self.outputs(x_BCHW, (AUXILIARY, self.exits[-1]))
        return logits_BK, auxiliary_BK

    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which an edge of a cell is dropped for an image in training.

        DARTS raises it linearly over the epochs from 0 to 0.2.

        Raises:
            ValueError: If it is not in [0, 1).
        """
        if not 0 <= probability < 1:
            raise ValueError(f"`probability` must be in [0, 1), got {probability}. 0 switches drop path off.")
        for part in self.parts.values():
            if isinstance(part, DerivedCell):
                part.drop_probability = probability


class Classifier(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits_BK: Tensor = self.linear(x_BCHW.mean((2, 3)))
        return logits_BK


class AuxiliaryHead(nn.Sequential):
    """The classifier that hangs at the second reduction while training.

    Source: Liu et al. 2019, published code, in which the one for ImageNet lacks the last batch norm. Deviation: none.
    """

    def __init__(self, settings: MultiScaleSettings) -> None:
        channels = settings.width(settings.auxiliary_position)
        last_norm: list[nn.Module] = [nn.BatchNorm2d(768)] if settings.stem == "cifar" else []
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, AUXILIARY_STRIDES[settings.stem], count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, 2, bias=False),
            *last_norm,
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(768, settings.num_classes),
        )


def part_name(position: Position) -> str:
    """Return the name of the part at a position."""
    layer, scale = position
    return f"cell_{layer}_{scale}" if layer >= 0 else f"stem_{layer + 2}_{scale}"


def part_inputs(settings: MultiScaleSettings) -> dict[str, tuple[str, ...]]:
    """Return what each part of a network reads, cells, stems, exits and auxiliary head alike."""
    found = {
        part_name(position): tuple(part_name(source) for source in settings.inputs(position)) or (IMAGE,)
        for position in settings.positions
    }
    for exit in range(1, settings.exits + 1):
        found[f"exit_{exit}"] = (part_name(settings.exit_position(exit)),)
    if settings.has_auxiliary:
        found[AUXILIARY] = (part_name(settings.auxiliary_position),)
    return found


def build_stem(settings: MultiScaleSettings, position: Position, *, affine: bool = True) -> nn.Module:
    """Return the convolution that makes a scale: from the image, or a vertical one from the next finer scale."""
    width = settings.width(position)
    inputs = settings.inputs(position)
    if settings.stem == "cifar":
        if inputs:
            return FactorizedReduce(settings.width(inputs[0]), width, affine=affine)
        return _conv_norm(settings.in_channels, width, 1)
    if inputs:
        return nn.Sequential(nn.ReLU(), _conv_norm(width, width, 2))
    half = width // 2
    return nn.Sequential(_conv_norm(settings.in_channels, half, 2), nn.ReLU(inplace=True), _conv_norm(half, width, 2))


def _conv_norm(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels))
