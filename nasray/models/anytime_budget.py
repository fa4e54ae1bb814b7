"""What each exit of a network costs, and prediction within a budget.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nasray.models.anytime import AnytimeNetwork, ExitSequence
from nasray.models.anytime_adaptive import AdaptiveResult, adaptive_predict
from nasray.models.anytime_thresholds import ExitPolicy

Measure = Callable[[nn.Module], float]
"""Measures one forward pass of a module, for a fixed input shape."""


@dataclass(frozen=True, kw_only=True)
class ExitCosts:
    """Costs of each exit, the first exit first; None for what was not measured.

    Args:
        macs: Multiply-adds of one image to this exit and to no other.
        cumulative_macs: Multiply-adds of one image that tries every exit up to this one.
        parameters: Learned numbers that the exit uses.
        latency_ms: Time of a batch to this exit and to no other.
        energy_j: Energy of a batch to this exit and to no other.
        batch_size: Images in the batch that latency and energy are for.

    Raises:
        ValueError: If the lengths differ, or the batch size is not positive.
    """

    macs: tuple[int, ...]
    cumulative_macs: tuple[int, ...]
    parameters: tuple[int, ...]
    latency_ms: tuple[float, ...] | None = None
    energy_j: tuple[float, ...] | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        columns = (self.macs, self.cumulative_macs, self.parameters, self.latency_ms, self.energy_j)
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"Every cost must have one value for each exit, got {sorted(lengths)} values.")
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {self.batch_size}.")


def measure_exits(
    network: AnytimeNetwork,
    *,
    macs: Measure,
    latency_ms: Measure | None = None,
    energy_j: Measure | None = None,
    batch_size: int = 1,
) -> ExitCosts:
    """Measure every exit, each alone: a module with the parts that this exit needs.

    Args:
        network: In eval mode.
        macs: Counts the multiply-adds of one image.
        latency_ms: Times a batch; None leaves latency out.
        energy_j: Measures the energy of a batch; None leaves energy out.
        batch_size: Images in that batch.
    """
    exits = range(1, network.num_exits + 1)
    alone = [network.exit_network(exit) for exit in exits]

    def column(measure: Measure | None) -> tuple[float, ...] | None:
        return None if measure is None else tuple(measure(module) for module in alone)

    return ExitCosts(
        macs=tuple(int(macs(module)) for module in alone),
        cumulative_macs=tuple(int(macs(ExitSequence(network, exit))) for exit in exits),
        parameters=tuple(sum(weight.numel() for weight in module.parameters()) for module in alone),
        latency_ms=column(latency_ms),
        energy_j=column(energy_j),
        batch_size=batch_size,
    )


class AnytimePredictor:
    """Predicts within a budget: with the last exit that it allows, or letting images leave that an exit is sure of.

    Args:
        network: In eval mode.
        costs: Of its exits.
        policies: Confidence thresholds that were calibrated for several budgets.

    Raises:
        ValueError: If the costs are of another number of exits.
    """

    def __init__(self, network: AnytimeNetwork, costs: ExitCosts, policies: Sequence[ExitPolicy] = ()) -> None:
        if len(costs.macs) != network.num_exits:
            raise ValueError(f"`costs` must be of {network.num_exits} exits, got {len(costs.macs)}.")
        self.network, self.costs, self.policies = network, costs, tuple(policies)

    def predict(
        self,
        x_BCHW: Tensor,
        *,
        exit: int | None = None,
        budget_macs: float | None = None,
        latency_ms: float | None = None,
        energy_j: float | None = None,
    ) -> Tensor:
        """Return logits (B, K); exactly one of the options must be given.

        Args:
            x_BCHW: Images.
            exit: Which exit.
            budget_macs: Multiply-adds to spend on an image at most.
            latency_ms: Time to spend on the batch at most, as measured for batches of this size.
            energy_j: Energy to spend on the batch at most, as measured for batches of this size.

        Raises:
            ValueError: If none or several options are given, if not even exit 1 fits the budget, if the cost was not
                measured or was measured for another batch size, or if the network is in training mode.
        """
        given = {
            name: value
            for name, value in (
                ("exit", exit), ("budget_macs", budget_macs), ("latency_ms", latency_ms), ("energy_j", energy_j)
            )
            if value is not None
        }  # fmt: skip
        if len(given) != 1:
            raise ValueError(
                "Exactly one of `exit`, `budget_macs`, `latency_ms` and `energy_j` must be given, got "
                f"{', '.join(given) or 'none'}."
            )
        if exit is None:
            ((name, budget),) = given.items()
            exit = self.exit_within(name, budget, batch_size=len(x_BCHW))
        return self.network.predict(x_BCHW, exit=exit)

    def predict_within_mean(self, x_BCHW: Tensor, *, mean_macs: float) -> AdaptiveResult:
        """Return logits of the exit at which each image leaves, with the dearest policy that a budget allows.

        Args:
            x_BCHW: Images, at least one.
            mean_macs: Multiply-adds to spend on an image in the mean at most, if images are as those of the
                calibration.

        Raises:
            ValueError: If no policy is as cheap, or the network is in training mode.
        """
        fitting = [policy for policy in self.policies if policy.mean_macs <= mean_macs]
        if not fitting:
            cheapest = min((policy.mean_macs for policy in self.policies), default=None)
            raise ValueError(
                "`mean_macs` must be at least that of the cheapest policy, "
                f"{'of which there is none' if cheapest is None else f'{cheapest:,.6g}'}, got {mean_macs:,.6g}."
            )
        policy = max(fitting, key=lambda policy: policy.mean_macs)
        return adaptive_predict(self.network, x_BCHW, policy.thresholds)

    def exit_within(self, name: str, budget: float, *, batch_size: int = 1) -> int:
        """Return the last exit that a budget allows.

        Args:
            name: "budget_macs", "latency_ms" or "energy_j".
            budget: In that unit: for an image, or for the batch.
            batch_size: Images in the batch, for latency and energy.

        Raises:
            ValueError: As `predict` does.
        """
        columns: dict[str, Sequence[float] | None] = {
            "budget_macs": self.costs.macs,
            "latency_ms": self.costs.latency_ms,
            "energy_j": self.costs.energy_j,
        }
        if name not in columns:
            raise ValueError(f"`name` must be one of {', '.join(columns)}, got {name!r}.")
        column = columns[name]
        if column is None:
            raise ValueError(f"`costs` must hold what `{name}` is compared with, got None. Measure it first.")
        if name != "budget_macs" and batch_size != self.costs.batch_size:
            raise ValueError(
                f"`{name}` was measured for batches of {self.costs.batch_size}, got {batch_size} images. Measure the "
                "costs at this batch size."
            )
        fitting = [exit for exit, cost in enumerate(column, start=1) if cost <= budget]
        if not fitting:
            raise ValueError(f"`{name}` must be at least {min(column):,.6g}, the cheapest exit's, got {budget:,.6g}.")
        return fitting[-1]
