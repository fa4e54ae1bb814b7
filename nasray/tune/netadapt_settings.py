"""Settings of a NetAdaptV2 run, and the presets that fill them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import NETWORKS, mobile_space
from nasray.strategies.coordinate_descent import CoordinateDescentConfig
from nasray.training.candidates import CandidateConfig
from nasray.training.config import TrainingConfig


@dataclass(frozen=True)
class Target:
    """A cost at which a search ends: a share of the initial network's cost, or an absolute value in its unit."""

    value: float
    is_share: bool

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `50%` or a number in the cost's unit, such as `225e6`.

        Raises:
            ValueError: If it is neither, or not positive.
        """
        is_share = text.strip().endswith("%")
        try:
            value = float(text.strip().removesuffix("%"))
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise ValueError(f"`target` must be positive, like 50% or 225e6, got {text!r}.")
        return cls(value / 100 if is_share else value, is_share)

    def of(self, initial_cost: float) -> float:
        """Return the target in the cost's unit."""
        return self.value * initial_cost if self.is_share else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:.10g}%" if self.is_share else f"{self.value:.15g}"


@dataclass(frozen=True, kw_only=True)
class NetAdaptSettings:
    """Everything that decides what a run computes; where it runs is not in here.

    Args:
        network: Initial network; None chooses by the resolution of the images.
        supernet: Recipe of the supernet.
        num_subnets: Sub-networks per step.
        is_masked: Whether ordered dropout masks (each image its own sub-network) instead of cutting the batch.
        costs: Costs to search under, a search for each.
        targets: Where searches end, a search for each.
        optimizer: Multi-layer or single-layer coordinate descent.
        num_samples: J.
        num_layers: L.
        first_reduction: Share of the initial cost that the first iteration saves.
        decay: Of the reduction, per iteration.
        candidates: How sub-networks are compared.
        final: Recipe of the discovered networks.
        distillation: Weight of the teacher (the supernet's largest network) in the final loss; 0 for none.
        inherits: Whether final training starts from the supernet's weights.
        trains_initial: Whether the initial network is trained too, for the table.
        latency_device: Where latencies are measured, cpu (one thread) or cuda.
        training_cpus: Processors of a training on CPUs; small networks are fastest on one.
        max_train: Most training images to use; None for all.
    """

    network: str | None = None
    supernet: TrainingConfig
    num_subnets: int = 6
    is_masked: bool = False
    costs: tuple[str, ...] = ("macs",)
    targets: tuple[Target, ...] = (Target(0.6, True), Target(0.3, True))
    optimizer: Literal["multi-layer", "single-layer"] = "multi-layer"
    num_samples: int = 200
    num_layers: int = 10
    first_reduction: float = 0.03
    decay: float = 0.98
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    final: TrainingConfig
    distillation: float = 0.5
    inherits: bool = False
    trains_initial: bool = True
    latency_device: str = "cpu"
    training_cpus: int | None = None
    max_train: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.distillation <= 1:
            raise ValueError(f"`distillation` must be in [0, 1], got {self.distillation}.")

    def space(self, *, num_classes: int, channels: int, resolution: int) -> MobileSpace:
        """Return the search space for a data set."""
        name = self.network or default_network(resolution)
        return mobile_space(name, num_classes=num_classes, in_channels=channels, resolution=resolution)

    def descent(self, target: float) -> CoordinateDescentConfig:
        """Return the optimizer's settings for a target in the cost's unit."""
        return CoordinateDescentConfig(
            target=target,
            mode=self.optimizer,
            num_samples=self.num_samples,
            num_layers=self.num_layers,
            first_reduction=self.first_reduction,
            decay=self.decay,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON, targets as text."""
        return asdict(self) | {"costs": list(self.costs), "targets": [str(target) for target in self.targets]}


def default_network(resolution: int) -> str:
    """Return the initial network for images of this side."""
    if resolution <= 12:
        return "mobile-8"
    return "mobile-32" if resolution <= 64 else "netadaptv2-latency"


def _quick() -> NetAdaptSettings:
    """A few minutes on two cores: enough to see every stage work on small images."""
    recipe = TrainingConfig(epochs=120, batch_size=64, decay_epochs=1.5, ema_decay=0.998)
    return NetAdaptSettings(
        supernet=recipe,
        num_samples=40,
        num_layers=5,
        first_reduction=0.06,
        final=replace(recipe, epochs=60, decay_epochs=0.75),
        training_cpus=1,
        max_train=5000,
    )


def _cifar10() -> NetAdaptSettings:
    """CIFAR-10 or CIFAR-100 at full size; hours on a CPU, minutes on a GPU."""
    recipe = TrainingConfig(epochs=80, batch_size=128, decay_epochs=1.0, warmup_epochs=2, ema_decay=0.999)
    return NetAdaptSettings(
        network="mobile-32",
        supernet=recipe,
        num_samples=100,
        num_layers=6,
        final=replace(recipe, epochs=100, decay_epochs=1.25, label_smoothing=0.1),
    )


def _paper_latency() -> NetAdaptSettings:
    """The latency-guided ImageNet search (Sec. 4.1.1 and 4.1.2).

    The paper's 51 ms are a Pixel 1's; 47 % is what its network keeps of the initial network's MACs. It names no
    number of epochs: 120 and 350 are common for this family.
    """
    return NetAdaptSettings(
        network="netadaptv2-latency",
        supernet=TrainingConfig(epochs=120, batch_size=1024),
        num_subnets=32,
        costs=("latency",),
        targets=(Target(0.47, True),),
        num_samples=200,
        num_layers=10,
        first_reduction=0.03,
        final=TrainingConfig(epochs=350, batch_size=2048),
        trains_initial=False,
    )


def _paper_mac() -> NetAdaptSettings:
    """The MAC-guided ImageNet search (Sec. 4.1.1 and 4.1.3), without AutoAugment."""
    return replace(
        _paper_latency(),
        network="netadaptv2-mac",
        costs=("macs",),
        targets=(Target(314e6, False),),
        num_layers=15,
        first_reduction=0.025,
        final=TrainingConfig(epochs=350, batch_size=1536, survival=0.8),
    )


PRESETS: dict[str, Callable[[], NetAdaptSettings]] = {
    "quick": _quick,
    "cifar10": _cifar10,
    "paper-latency": _paper_latency,
    "paper-mac": _paper_mac,
}


def check_network(name: str | None) -> None:
    """Raise ValueError for an unknown initial network."""
    if name is not None and name not in NETWORKS:
        raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}, got {name!r}.")
