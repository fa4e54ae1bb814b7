"""After a search: measure the networks on the front again, and compare with what was predicted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from nasray.architecture import Architecture
from nasray.reading import build, short

FILE = "cost_check.json"
"""Name of the file in a run's directory."""
SCHEMA_VERSION = 1

Measure = Callable[[Architecture], float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork:
    """One network, predicted and measured.

    Args:
        arch_id: Which network.
        label: What to call it, such as the trial that found it.
        predicted: Its cost as the search had it.
        measured: Median of the rounds, or the least of them.
        spread: Interquartile range of the rounds; `None` for a single round.
    """

    arch_id: str
    label: str
    predicted: float
    measured: float
    spread: float | None


@dataclass(frozen=True, kw_only=True)
class CostCheck:
    """Predicted against measured costs of the networks that a search found.

    Args:
        metric: Name of the cost.
        unit: Of the cost.
        device: Where it was measured, and how.
        networks: The networks.
        kendall_tau: Rank correlation (tau-b); `None` where there is no order: fewer than two networks, or all alike.
        spearman_rho: The same, of ranks.
        mean_absolute_percentage_error: Mean of |predicted - measured| / measured, in percent.
        median_ratio: Median of predicted over measured.
    """

    metric: str
    unit: str
    device: str
    networks: tuple[CheckedNetwork, ...]
    kendall_tau: float | None
    spearman_rho: float | None
    mean_absolute_percentage_error: float
    median_ratio: float

    @classmethod
    def of(cls, networks: Sequence[CheckedNetwork], *, metric: str, unit: str, device: str) -> CostCheck:
        """Compute the figures.

        Raises:
            ValueError: If there is no network, or a cost is not positive.
        """
        if not networks:
            raise ValueError("`networks` must hold a network to compare, got none.")
        if bad := next((n for n in networks if not (0 < n.predicted < math.inf and 0 < n.measured < math.inf)), None):
            raise ValueError(
                f"Costs of {bad.arch_id!r} must be positive, got {bad.predicted} predicted and {bad.measured} measured."
            )
        predicted = [network.predicted for network in networks]
        measured = [network.measured for network in networks]
        tau, rho = _rank_correlations(predicted, measured)
        ratios = [p / m for p, m in zip(predicted, measured, strict=True)]
        return cls(
            metric=metric,
            unit=unit,
            device=device,
            networks=tuple(networks),
            kendall_tau=tau,
            spearman_rho=rho,
            mean_absolute_percentage_error=100 * statistics.fmean(abs(ratio - 1) for ratio in ratios),
            median_ratio=statistics.median(ratios),
        )

    def describe(self) -> str:
        """Return the figures in one sentence."""
        orders = [("Kendall tau", self.kendall_tau), ("Spearman rho", self.spearman_rho)]
        ranks = "".join(f", {name} {value:.2f}" for name, value in orders if value is not None)
        return (
            f"{self.metric} of {len(self.networks)} networks on {self.device}: mean error "
            f"{self.mean_absolute_percentage_error:.1f} %, predicted/measured {self.median_ratio:.2f}{ranks}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object, for `RunDirectory.write_json(FILE, ...)`."""
        fields = asdict(self)
        return {"schema_version": SCHEMA_VERSION, **fields, "networks": list(fields["networks"])}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CostCheck:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is of another schema version, or anything else.
        """
        if value.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"`schema_version` must be {SCHEMA_VERSION}, got {short(value.get('schema_version'))}.")
        try:
            check = build(cls, {name: field for name, field in value.items() if name != "schema_version"})
        except ValueError as error:
            raise ValueError(f"A check of costs must hold what `CostCheck.to_json` writes ({error}).") from error
        costs = [cost for network in check.networks for cost in (network.predicted, network.measured)]
        if not costs or min(*costs, check.median_ratio) <= 0:
            raise ValueError(f"`networks` must hold networks with positive costs, got {len(check.networks)} others.")
        ranks = [rank for rank in (check.kendall_tau, check.spearman_rho) if rank is not None]
        if check.mean_absolute_percentage_error < 0 or any(abs(rank) > 1 for rank in ranks):
            raise ValueError("An error must be 0 or more and a rank correlation from -1 to 1, got others.")
        return check


def measure_front(
    architectures: Sequence[Architecture],
    predicted: Sequence[float],
    measure: Measure,
    *,
    metric: str,
    unit: str,
    device: str,
    generator: np.random.Generator,
    labels: Sequence[str] | None = None,
    rounds: int = 5,
    keep: Literal["median", "minimum"] = "median",
    progress: Progress | None = None,
) -> CostCheck:
    """Measure networks in turns and compare with their predicted costs.

    Every network is measured once in each round and a round goes in random order, so that a machine that slows down
    for a while spoils no network.

    Args:
        architectures: The networks, each once.
        predicted: Cost of each as the search had it.
        measure: Measures one network, such as `latency_measure(space)`.
        metric: Name of the cost.
        unit: Of the cost.
        device: Where it is measured, and how.
        generator: Draws the order.
        labels: What to call the networks; their ids by default.
        rounds: Measurements of each network.
        keep: What counts of the rounds; that of the sample which predictions were learned from, see `measure_sample`.
        progress: Called with the measurements done and those needed in all.

    Raises:
        ValueError: If there is no network, numbers don't agree, or a cost is not positive.
    """
    names = [each.arch_id for each in architectures] if labels is None else list(labels)
    if not len(architectures) == len(predicted) == len(names):
        raise ValueError(
            f"`architectures`, `predicted` and `labels` must be as many, got {len(architectures)}, {len(predicted)} "
            f"and {len(names)}."
        )
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}. Use 5.")
    values: list[list[float]] = [[] for _ in architectures]
    for turn in range(rounds):
        for done, index in enumerate(generator.permutation(len(values)), start=1):
            values[index].append(float(measure(architectures[index])))
            if progress is not None:
                progress(turn * len(values) + done, rounds * len(values))
    networks = [
        CheckedNetwork(
            arch_id=architecture.arch_id,
            label=name,
            predicted=float(cost),
            measured=min(own) if keep == "minimum" else statistics.median(own),
            spread=float(np.subtract(*np.percentile(own, [75, 25]))) if rounds > 1 else None,
        )
        for architecture, name, cost, own in zip(architectures, names, predicted, values, strict=True)
    ]
    return CostCheck.of(networks, metric=metric, unit=unit, device=device)


def _rank_correlations(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, float | None]:
    from scipy.stats import kendalltau, spearmanr

    if len(set(one)) < 2 or len(set(other)) < 2:
        return None, None
    return float(kendalltau(one, other).statistic), float(spearmanr(one, other).statistic)
