"""What a relaxed network is expected to cost, differentiable in its architecture parameters.

Each operation's cost is summed over all cells of its kind. Counted is what derivation would keep now: two edges of
each node, and on them the operations other than "none" by their weights. So the mixture can't get cheaper by learning
"none" without a cheaper network at its end, and it comes to the derived network's cost as the weights get certain.

Tensor letters: E edges, O operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nasray.carbon.carbon_terms import OperationLimit, expected_carbon_g
from nasray.differentiable.derivation import derived_weights, kept_edges
from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.spaces.genotype import NUM_INPUTS, OPERATIONS, Genotype, cell_edges
from nasray.spaces.multi_scale_costs import operation_convolutions, total_macs
from nasray.spaces.multi_scale_layout import MultiScaleSettings, Position
from nasray.spaces.multi_scale_plan import MultiScalePlan

OperationCost = Callable[[str, int, int, int], float]
"""Takes an operation's name, its channels, the side of its input in pixels and its stride; gives its cost."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CostTable:
    """The cost of each operation on each edge, summed over the cells of a kind, for a pass through all exits.

    Args:
        unit: What is counted, such as "macs", "latency_ms", "energy_j" or "carbon_g"; of one image, or of the batch
            that was measured.
        normal: (E, O) costs in normal cells.
        reduce: (E, O) costs in reduction cells.
        fixed: Cost of everything else: stems, inputs of cells, classifiers.
    """

    unit: str
    normal: Tensor
    reduce: Tensor
    fixed: float

    def expected(self, network: RelaxedNetwork) -> Tensor:
        """Return the expected cost of a network, a scalar with gradients for its architecture parameters."""
        found: Tensor = self.fixed + expected_carbon_g(self.kept(network), self.of_operations(network))
        return found

    def derived(self, network: RelaxedNetwork) -> float:
        """Return the cost of the network that would be derived now."""
        weights = torch.cat([derived_weights(mixture.probabilities().detach()) for mixture in network.mixtures])
        return self.fixed + float((weights * self.of_operations(network)).sum())

    def kept(self, network: RelaxedNetwork) -> Tensor:
        """Return the weights of what derivation keeps of both mixtures, one below the other, (2E, O)."""
        return torch.cat([_kept(mixture.probabilities()) for mixture in network.mixtures])

    def of_operations(self, network: RelaxedNetwork) -> Tensor:
        """Return the costs in both kinds of cells, one below the other, (2E, O), where the network computes."""
        return torch.cat([self.normal, self.reduce]).to(network.alphas[0])

    def scaled(self, unit: str, factor: float) -> CostTable:
        """Return the table in another unit: a latency in ms times W / 1000 is an energy in J.

        Raises:
            ValueError: If the factor is not positive.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"`factor` must be a positive number, got {factor}.")
        return CostTable(unit=unit, normal=self.normal * factor, reduce=self.reduce * factor, fixed=self.fixed * factor)


@dataclass(frozen=True, kw_only=True, eq=False)
class CostTerm:
    """A term for the loss of the architecture parameters.

    Args:
        table: Costs.
        weight: Of the term beside the cross entropy.
        target: The cost that is free, in the table's unit; None charges for all of it, in units of the cost with which
            the search began.
        limit: What one operation, over all its cells of a kind, may emit or compute; it needs a table of carbon.
        macs: Multiply-adds, for a limit that concerns them.

    Raises:
        ValueError: If the weight is negative, the target is not above the fixed cost, or a limit lacks its tables.

    Source: Fu et al. 2021, Sec. 3.1 (b), for limit and budget; Cai et al. 2019 (ProxylessNAS) for the expectation.
    Deviation: the hinge is relative to what the fixed part leaves of the target, and closes for the derived network.
    """

    table: CostTable
    weight: float
    target: float | None = None
    limit: OperationLimit | None = None
    macs: CostTable | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"`weight` must be a finite number of at least 0, got {self.weight}.")
        if self.target is not None and not self.target > self.table.fixed:
            raise ValueError(
                f"`target` must be above {self.table.fixed:g} {self.table.unit}, what the network costs without "
                f"operations, got {self.target:g}. Raise it or search in a smaller layout."
            )
        if self.limit is not None and self.table.unit != "carbon_g":
            raise ValueError(f"`limit` must come with a table of carbon_g, got one of {self.table.unit}.")

    def loss(self, network: RelaxedNetwork, *, initial: float) -> Tensor:
        """Return the term.

        With a target it is 0 as long as the derived network meets it, whatever the mixture is expected to cost; above
        it, the share by which the derived network exceeds it, with the gradients of the expectation.

        Args:
            network: Whose mixtures cost.
            initial: Expected cost with which the search began.
        """
        if self.target is None:
            return self.weight * self.table.expected(network) / initial
        expected, derived = self.table.expected(network), self.table.derived(network)
        straight_through = expected - expected.detach() + derived
        excess = (straight_through - self.target) / (self.target - self.table.fixed)
        return self.weight * excess * (derived > self.target)

    def forbid_broken(self, network: RelaxedNetwork) -> None:
        """Leave out of the mixtures what breaks the limit; skip connections and poolings cost no multiply-adds.

        Raises:
            ValueError: If an edge would have no operation left.
        """
        if self.limit is None:
            return
        for name, mixture in zip(("normal", "reduce"), network.mixtures, strict=True):
            macs = None if self.macs is None else getattr(self.macs, name)
            mixture.forbid(self.limit.broken(getattr(self.table, name), macs))


def cost_table(settings: MultiScaleSettings, unit: str, cost: OperationCost, *, fixed: float) -> CostTable:
    """Return the table of a layout; `cost` is asked once for each operation, size and stride."""
    known: dict[tuple[str, int, int, int], float] = {}
    edges = cell_edges(settings.num_nodes)
    tables = {kind: torch.zeros(len(edges), len(OPERATIONS), dtype=torch.float64) for kind in (False, True)}
    for position in settings.positions:
        if position.layer < 0:
            continue
        is_reduction, channels = settings.is_reduction(position.layer), settings.cell_channels(position.layer)
        for row, (source, _) in enumerate(edges):
            stride = 2 if is_reduction and source < NUM_INPUTS else 1
            side = _entering_side(settings, position) if stride == 2 else settings.side(position)
            for column, name in enumerate(OPERATIONS):
                key = (name, channels, side, stride)
                if key not in known:
                    known[key] = cost(*key)
                tables[is_reduction][row, column] += known[key]
    return CostTable(unit=unit, normal=tables[False], reduce=tables[True], fixed=fixed)


def macs_table(settings: MultiScaleSettings) -> CostTable:
    """Return multiply-adds in closed form, as a derived network's plan counts them over all exits."""

    def macs(name: str, channels: int, side: int, stride: int) -> float:
        return float(total_macs(operation_convolutions(name, channels, -(-side // stride), stride=stride)))

    free = [("max_pool_3x3", source) for _ in range(settings.num_nodes) for source in (0, 1)]
    without = MultiScalePlan(genotype=Genotype.of(free, free), settings=settings)
    return cost_table(settings, "macs", macs, fixed=float(without.cumulative_macs(settings.exits)))


def _kept(probabilities_EO: Tensor) -> Tensor:
    """Return the weights of operations other than "none" on the edges that are kept, summing to 1 on each."""
    is_operation_O = torch.tensor([name != "none" for name in OPERATIONS], device=probabilities_EO.device)
    weights_EO = probabilities_EO * is_operation_O
    sums_E1 = weights_EO.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights_EO.dtype).tiny)
    return weights_EO / sums_E1 * kept_edges(probabilities_EO.detach())[:, None]


def _entering_side(settings: MultiScaleSettings, position: Position) -> int:
    """Return the side of a cell's nodes 0 and 1."""
    return settings.side(Position(position.layer - 1, position.scale))
