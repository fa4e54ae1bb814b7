"""Training all networks of an elastic space at once, and judging each by its part of the shared weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.architecture import Architecture
from nasray.data import ImageData
from nasray.models.shared_weights import SharedWeights
from nasray.spaces.elastic_space import ElasticSpace
from nasray.training.config import TrainingConfig
from nasray.training.jobs import Place, RunningJob, Weights, calibrate_on_training_images
from nasray.training.network_evaluation import NetworkEvaluator
from nasray.training.trainer import Backward


@dataclass(frozen=True, kw_only=True)
class SharedJob:
    """Train the weights that all networks of a space share.

    Args:
        space: Whose networks.
        training: Recipe; an epoch shows each image to one network.
        seed: Of weights, shuffling, augmentation and networks.
        num_networks: Networks a step; the batch is cut into as many parts.
    """

    space: ElasticSpace
    training: TrainingConfig
    seed: int = 0
    num_networks: int = 4

    def start(self, data: ImageData, place: Place) -> RunningJob:
        """Build the largest network and what the others take of it."""
        torch.manual_seed(self.seed)
        shared = SharedWeights(self.space)
        place.put(shared)
        generator = np.random.default_rng()
        smoothing = self.training.label_smoothing
        backward = ordered_dropout(shared, generator, num_networks=self.num_networks, label_smoothing=smoothing)
        return RunningJob(shared, self.training, backward, data, place, seed=self.seed, generator=generator)

    def final_metrics(self, running: RunningJob, data: ImageData, place: Place) -> dict[str, float]:
        """Return nothing: networks are judged one by one."""
        return {}


def ordered_dropout(
    shared: SharedWeights, generator: np.random.Generator, *, num_networks: int, label_smoothing: float = 0.0
) -> Backward:
    """Train several networks in one step, each option of each choice almost equally often.

    The batch is cut into equal parts; each is seen by its own network, and the gradients add up to those of the mean
    loss over the batch.

    Args:
        shared: In training mode.
        generator: Draws the networks.
        num_networks: In a step; no more than give each two images, as batch norm needs.
        label_smoothing: Share of the label spread over all classes.

    Source: Yang et al. 2021 (NetAdaptV2), Sec. 2.3. Deviation: images of one part share a network.
    """

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        count = max(1, min(num_networks, len(labels) // 2))
        total = torch.zeros((), device=labels.device)
        parts = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
        for architecture, (part, targets) in zip(shared.space.balanced(count, generator), parts, strict=True):
            logits = shared.run(architecture, part).float()
            loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum") / len(labels)
            scale(loss).backward()
            total += loss.detach()
        return total

    return backward


@dataclass
class SharedEvaluator(NetworkEvaluator):
    """Measures networks with their part of shared weights, whose batch norms see some training images again.

    Metrics are those of `NetworkEvaluator`; `training_time_s` is the time of those images.

    Args:
        weights: As `SharedJob` leaves them; `space` must be elastic.
    """

    weights: Weights = field(default_factory=dict, repr=False)
    _shared: SharedWeights = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.space, ElasticSpace):
            raise ValueError(f"`space` must be an ElasticSpace to share weights, got {type(self.space).__name__}.")
        self._shared = SharedWeights(self.space)
        self._shared.load_state_dict({name: torch.from_numpy(np.array(part)) for name, part in self.weights.items()})

    def trained(self, architecture: Architecture) -> nn.Module:
        """Return a network that was trained further from its part of the weights, in eval mode.

        Raises:
            DivergedError: If the training diverges.
        """
        torch.manual_seed(self.config.seed)
        return self._fit(self._shared.extract(architecture).to(self.device))

    def _trained(self, architecture: Architecture) -> nn.Module:
        network = self._shared.extract(architecture).to(self.device)
        calibrate_on_training_images(network, self.data, self.device)
        return network.eval()
