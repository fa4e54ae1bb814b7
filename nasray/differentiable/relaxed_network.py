"""The network that a differentiable search trains: every edge of every cell a mixture of all operations.

It has the layout of the networks derived from it: the same settings place cells, scales and exits.

Tensor letters: B images, C channels, H and W height and width, E edges, O operations.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nasray.differentiable.relaxation import Mixture, Relaxation
from nasray.differentiable.source_operations import SourceOperations
from nasray.models.anytime import IMAGE, AnytimeNetwork
from nasray.models.multi_scale_network import (
    CellInputs,
    Classifier,
    DerivedCell,
    MultiScaleNetwork,
    build_stem,
    part_inputs,
    part_name,
)
from nasray.spaces.genotype import NUM_INPUTS, Genotype, cell_edges
from nasray.spaces.multi_scale_layout import MultiScaleSettings, Position
from nasray.spaces.multi_scale_plan import MultiScalePlan

NORMAL, REDUCE = "mixture_normal", "mixture_reduce"
"""Names of the parts that hold the architecture parameters of the two kinds of cells."""


class RelaxedCell(nn.Module):
    """A cell whose every edge is a mixture; takes what `CellInputs` takes, and before it the weights (E, O)."""

    def __init__(self, settings: MultiScaleSettings, position: Position) -> None:
        super().__init__()
        self.enter = CellInputs(settings, position, affine=False)
        channels, edges = settings.cell_channels(position.layer), cell_edges(settings.num_nodes)
        self.rows = [
            [row for row, edge in enumerate(edges) if edge[0] == source]
            for source in range(NUM_INPUTS + settings.num_nodes - 1)
        ]
        self.targets = [[edges[row][1] for row in rows] for rows in self.rows]
        strides = [
            2 if settings.is_reduction(position.layer) and source < NUM_INPUTS else 1
            for source in range(len(self.rows))
        ]
        self.sources = nn.ModuleList(
            SourceOperations(len(rows), channels, stride) for rows, stride in zip(self.rows, strides, strict=True)
        )

    def forward(self, weights_EO: Tensor, *inputs_BCHW: Tensor) -> Tensor:
        """Return the concatenated intermediate nodes, (B, num_nodes * channels, H/stride, W/stride)."""
        nodes: list[Tensor] = list(self.enter(*inputs_BCHW))
        sums: dict[int, Tensor] = {}
        for source, (rows, targets, operations) in enumerate(zip(self.rows, self.targets, self.sources, strict=True)):
            mixed = operations(nodes[source], weights_EO[rows])
            for target, term_BCHW in zip(targets, mixed, strict=True):
                sums[target] = sums[target].add_(term_BCHW) if target in sums else term_BCHW
            if source + 1 >= NUM_INPUTS:
                nodes.append(sums.pop(source + 1))
        return torch.cat(nodes[NUM_INPUTS:], dim=1)

    def tensors(self, source: int, target: int, operation: str) -> dict[str, Tensor]:
        """Return views of the weights and statistics of one operation on one edge, named as in its module."""
        operations = self.sources[source]
        assert isinstance(operations, SourceOperations)
        return operations.tensors(self.targets[source].index(target), operation)


class RelaxedNetwork(AnytimeNetwork):
    """The supernet of a multi-scale space; takes (B, in_channels, resolution, resolution), gives logits (B, K).

    Parts are those of a derived network, and two mixtures whose weights its cells read.

    Args:
        settings: Layout of the cells; 16 channels, 8 layers, one scale and one exit are DARTS's.
        relaxation: How architecture parameters become weights.

    Raises:
        ValueError: If the settings ask for an auxiliary head, which a search has not.

    Source: Cioflan and Timofte 2020 (MS-RANAS), Sec. 3; Liu et al. 2019 (DARTS), Sec. 2. Deviation: as the paper says
    nothing else, all scales share the architecture parameters of the two kinds of cells.
    """

    def __init__(self, settings: MultiScaleSettings, *, relaxation: Relaxation = "softmax") -> None:
        if settings.has_auxiliary:
            raise ValueError("`settings.has_auxiliary` must be False for a search, got True. Derived networks may.")
        parts: dict[str, nn.Module] = {
            name: Mixture(settings.num_nodes, relaxation=relaxation) for name in (NORMAL, REDUCE)
        }
        inputs: dict[str, tuple[str, ...]] = dict.fromkeys(parts, (IMAGE,)) | part_inputs(settings)
        for position in settings.positions:
            name = part_name(position)
            if position.layer < 0:
                parts[name] = build_stem(settings, position, affine=False)
            else:
                parts[name] = RelaxedCell(settings, position)
                inputs[name] = (REDUCE if settings.is_reduction(position.layer) else NORMAL, *inputs[name])
        exits = [f"exit_{exit}" for exit in range(1, settings.exits + 1)]
        for exit, name in enumerate(exits, start=1):
            parts[name] = Classifier(settings.width(settings.exit_position(exit)), settings.num_classes)
        super().__init__(parts, inputs, exits)
        self.settings = settings
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def mixtures(self) -> tuple[Mixture, Mixture]:
        """Of the normal and of the reduction cells."""
        normal, reduce = self.parts[NORMAL], self.parts[REDUCE]
        assert isinstance(normal, Mixture) and isinstance(reduce, Mixture)
        return normal, reduce

    @property
    def alphas(self) -> list[nn.Parameter]:
        """Architecture parameters of the normal and of the reduction cells, each (E, O)."""
        return [mixture.alpha for mixture in self.mixtures]

    @property
    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = set(self.alphas)
        return [parameter for parameter in self.parameters() if parameter not in alphas]

    @property
    def num_weights(self) -> int:
        """How many numbers are learned, architecture parameters aside."""
        return sum(weight.numel() for weight in self.weights)

    def set_genotype(self, genotype: Genotype) -> None:
        """Make both mixtures certain, so that the network computes what the derived one does."""
        for mixture, cell in zip(self.mixtures, (genotype.normal, genotype.reduce), strict=True):
            mixture.set_cell(cell)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the Gumbel-softmax.

        Raises:
            ValueError: If it is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}. Low ones are almost one-hot.")
        for mixture in self.mixtures:
            mixture.temperature = temperature


def darts_supernet(*, num_classes: int = 10, channels: int = 16, layers: int = 8) -> RelaxedNetwork:
    """Return the network in which DARTS searches on CIFAR (Liu et al. 2019, Sec. 3.1.1)."""
    return RelaxedNetwork(MultiScaleSettings(num_classes=num_classes, channels=channels, layers=layers))


@torch.no_grad()
def inherit(supernet: RelaxedNetwork, genotype: Genotype) -> MultiScaleNetwork:
    """Return the derived network with the supernet's weights and statistics.

    Its batch norms are those of the search: without learned scale and shift, and one behind each pooling.

    Raises:
        ValueError: If the genotype's cells have another number of nodes.
    """
    network = MultiScaleNetwork(
        MultiScalePlan(genotype=genotype, settings=supernet.settings), affine=False, has_pool_norm=True
    )
    network.to(next(supernet.parameters()))
    is_reduction = {
        part_name(place): supernet.settings.is_reduction(place.layer) for place in supernet.settings.positions
    }
    for name, part in network.parts.items():
        relaxed = supernet.parts[name]
        if not (isinstance(part, DerivedCell) and isinstance(relaxed, RelaxedCell)):
            part.load_state_dict(relaxed.state_dict())
            continue
        part.enter.load_state_dict(relaxed.enter.state_dict())
        cell = genotype.cell(is_reduction=is_reduction[name])
        edges = ((edge, node) for node, both in enumerate(cell, start=NUM_INPUTS) for edge in both)
        for module, (edge, node) in zip(part.operations, edges, strict=True):
            _copy(relaxed.tensors(edge.source, node, edge.operation), module)
    return network.train(supernet.training)


def _copy(tensors: dict[str, Tensor], module: nn.Module) -> None:
    """Copy tensors into the module that they are named after."""
    own = dict(_tensors(module))
    if own.keys() != tensors.keys():
        raise RuntimeError(f"The operation must hold {sorted(own)}, got {sorted(tensors)}.")
    for name, value in own.items():
        value.copy_(tensors[name])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield weights and statistics; the counter of batches, which plays no role at a fixed momentum, is left out."""
    yield from ((name, value) for name, value in module.state_dict().items() if "num_batches" not in name)
