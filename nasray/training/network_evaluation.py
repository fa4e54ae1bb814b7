"""Evaluation of a network on its own: trained from scratch, then measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.data import Batches, ImageData, Split
from nasray.evaluation import Evaluation
from nasray.failures import attempt
from nasray.hardware.counter import count_macs
from nasray.models.build import InfeasibleArchitectureError, NetworkSpace, build_network
from nasray.spaces.elastic_space import ElasticSpace
from nasray.training import losses
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import evaluate
from nasray.training.trainer import Trainer

METRICS = ("accuracy", "test_accuracy", "inference_time_s", "training_time_s", "parameters", "macs")
"""What a `NetworkEvaluator` measures."""

_WARM_UP_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class NetworkEvaluationConfig:
    """How a candidate is trained and timed.

    Args:
        training: The recipe.
        timing_batch_size: Images per forward pass while inference is timed.
        timing_repeats: Passes over the held-out images of which the median time counts.
        seed: Of weights and batches.

    Source: Young et al. 2019 (MENNDL), Sec. III-A (batches of 100). Deviation: the paper times one pass.
    """

    training: TrainingConfig
    timing_batch_size: int = 100
    timing_repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.timing_batch_size < 1 or self.timing_repeats < 1:
            raise ValueError("`timing_batch_size` and `timing_repeats` must be at least 1.")


@dataclass
class NetworkEvaluator:
    """Trains networks of a space and measures what they are worth and what they cost.

    Metrics: `accuracy` on the held-out images, which a search may look at, and `test_accuracy`, which it must not;
    `inference_time_s` over the held-out images with their transfer to the device; `training_time_s`; `parameters`;
    `macs` of one image.

    Args:
        space: Where the architectures come from.
        data: Images of the space's size and classes.
        config: Settings.
        device: Where to compute.
        costs: More metrics by name, none of those above: functions of a trained network, in eval mode on the device.

    Raises:
        ValueError: If a cost has the name of another metric.

    Source: Young et al. 2019 (MENNDL), Sec. III-A. Deviation: the search sees held-out instead of test images.
    """

    space: NetworkSpace
    data: ImageData
    config: NetworkEvaluationConfig
    device: str = "cpu"
    costs: Mapping[str, Callable[[nn.Module], float]] = field(default_factory=dict)
    _holdout: list[tuple[Tensor, Tensor]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_cost_names(self.costs, METRICS)
        self._holdout = list(self._batches(self.data.holdout, self.config.timing_batch_size, device="cpu"))

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Return the figures of a network; failed if it diverges, infeasible if it needs too much memory."""
        return attempt(lambda: self._evaluate(architecture))

    def warm_up(self) -> None:
        """Train and time a tiny network, which is forgotten.

        What PyTorch imports and sets up once in a process takes seconds and tens of joules, and would be charged to the
        first candidate.
        """
        images, _ = self._holdout[0]
        few = self.data.train.subset(torch.arange(min(len(self.data.train), _WARM_UP_IMAGES)))
        network = nn.Sequential(
            nn.Conv2d(images.shape[1], 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, self.data.num_classes),
        )
        self._inference_time_s(self._fit(network.to(self.device), few))

    def trained(self, architecture: Architecture) -> nn.Module:
        """Return the network as it was trained in the search, trained once more, in eval mode.

        Raises:
            InfeasibleArchitectureError: If the architecture breaks a limit of its space.
            DivergedError: If the training diverges.
        """
        return self._trained(architecture)

    def inference_time_s(self, architecture: Architecture) -> float:
        """Time inference of a network over the held-out images, without training it; time does not depend on weights.

        Raises:
            InfeasibleArchitectureError: If the architecture breaks a limit of its space.
        """
        return self._inference_time_s(build_network(self.space, architecture).to(self.device).eval())

    def _evaluate(self, architecture: Architecture) -> Evaluation:
        try:
            # First: what cannot be counted cannot be trained either, and says so at once.
            sizes = size_metrics(self.space, architecture, (1, *self._holdout[0][0].shape[1:]))
            start = time.perf_counter()
            trained = self._trained(architecture)
        except InfeasibleArchitectureError as error:
            return Evaluation(status="infeasible", reason=str(error))
        training_time_s = time.perf_counter() - start
        metrics = sizes | self._measure(trained) | {"training_time_s": training_time_s}
        return Evaluation.from_metrics(metrics, time.perf_counter() - start)

    def _trained(self, architecture: Architecture) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return self._fit(build_network(self.space, architecture).to(self.device))

    def _fit(self, network: nn.Module, few: Split | None = None) -> nn.Module:
        """Train a network by the recipe; on few images for an epoch, if there are any."""
        config, seed = self.config.training, self.config.seed
        train, epochs = (self.data.train, config.epochs) if few is None else (few, 1)
        steps = len(self._batches(train, config.batch_size, is_training=True))
        backward = losses.cross_entropy(network, label_smoothing=config.label_smoothing)
        trainer = Trainer(network, config, steps_per_epoch=steps, backward=backward)
        for epoch in range(epochs):
            trainer.run_epoch(self._batches(train, config.batch_size, is_training=True, seed=seed, epoch=epoch))
        return trainer.evaluated.eval()

    def _measure(self, network: nn.Module) -> dict[str, float]:
        figures = {name: float(cost(network)) for name, cost in self.costs.items()}
        return figures | {
            "accuracy": evaluate(network, self._on_device())["accuracy"],
            "test_accuracy": evaluate(network, self._batches(self.data.test, 256))["accuracy"],
            "inference_time_s": self._inference_time_s(network),
        }

    @torch.inference_mode()
    def _inference_time_s(self, network: nn.Module) -> float:
        times = []
        for _ in range(self.config.timing_repeats + 1):  # the first pass warms up
            start = time.perf_counter()
            for images, _labels in self._on_device():
                classes = network(images).argmax(1)
            classes.cpu()  # waits for the device
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    def _on_device(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield the held-out images, each time transferred anew."""
        return ((images.to(self.device), labels.to(self.device)) for images, labels in self._holdout)

    def _batches(
        self,
        split: Split,
        batch_size: int,
        *,
        is_training: bool = False,
        seed: int = 0,
        epoch: int = 0,
        device: str | None = None,
    ) -> Batches:
        return Batches(
            split,
            self.data,
            batch_size=batch_size,
            device=device or self.device,
            train=is_training,
            seed=seed,
            epoch=epoch,
            num_workers=1,
        )


def check_cost_names(costs: Iterable[str], taken: Iterable[str]) -> None:
    """Refuse costs whose names stand for something else already.

    Raises:
        ValueError: If there is one.
    """
    if both := sorted({*costs} & {*taken}):
        raise ValueError(
            f"`costs` must not be named {', '.join(sorted(taken))}, got {both[0]!r}, which has a meaning. Rename it."
        )


def size_metrics(space: NetworkSpace, architecture: Architecture, input_shape: Sequence[int]) -> dict[str, float]:
    """Return `parameters` and `macs` of a network: from its plan, or counted where a space has none.

    Args:
        space: Where the architecture comes from.
        architecture: The network.
        input_shape: Of one image, batch first.
    """
    if not isinstance(space, ElasticSpace):
        plan = space.plan(architecture)
        return {"parameters": float(plan.parameters), "macs": float(plan.macs)}
    with torch.random.fork_rng(devices=[]):
        network = build_network(space, architecture)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": float(parameters), "macs": float(count_macs(network, input_shape))}
