"""Training jobs: everything that one training run needs, in a form that can travel to another process.

A job is a recipe (frozen, picklable); `start` turns it into a `RunningJob` that trains one epoch at a time.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.data import Batches, ImageData
from nasray.models.plain import PlainNetwork
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_spec import NetworkSpec
from nasray.training import losses
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import evaluate, recalibrate
from nasray.training.trainer import Backward, Trainer, average_buffers

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job runs: its device, and which of how many workers it is."""

    device: str = "cpu"
    rank: int = 0
    world_size: int = 1
    decode_threads: int = 1

    def put(self, model: nn.Module) -> None:
        """Move a model here, channels last."""
        model.to(self.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class RunningJob:
    """A job under way on one worker; what it holds is what a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        backward: Backward,
        data: ImageData,
        place: Place,
        *,
        seed: int,
        generator: np.random.Generator,
    ) -> None:
        self._data, self._place, self._config = data, place, config
        self._seed, self._generator = seed, generator
        self.trainer = Trainer(model, config, steps_per_epoch=len(self._batches(0)), backward=backward)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.trainer.steps_per_epoch

    @property
    def skipped_images(self) -> list[str]:
        """Names of the images that this process could not read so far."""
        return list(self._data.skipped_images)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done."""
        return self.trainer.epoch >= self._config.epochs

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch; returns `loss` and `num_images` over all workers.

        Randomness starts anew from seed and epoch, so that an epoch is the same after a break. Dropout and
        augmentation differ on every worker; the generator, which draws for all of them, does not.
        """
        together = np.random.default_rng([self._seed, 0, self.trainer.epoch])
        self._generator.bit_generator.state = together.bit_generator.state
        entropy = [self._seed, self._place.rank, self.trainer.epoch]
        torch.manual_seed(int(np.random.SeedSequence([*entropy, 1]).generate_state(1)[0]))
        result = self.trainer.run_epoch(self._batches(self.trainer.epoch))
        average_buffers(self.trainer.model)
        average_buffers(self.trainer.average)
        return {"loss": result.loss, "num_images": result.num_images}

    def weights(self) -> dict[str, np.ndarray]:
        """Return the averaged weights as numpy arrays."""
        return to_numpy(self.trainer.evaluated)

    def state_dict(self) -> dict[str, object]:
        """Return all that the next epoch depends on."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue after the epoch at which `state_dict` was taken."""
        self.trainer.load_state_dict(state)

    def _batches(self, epoch: int) -> Batches:
        place = self._place
        return Batches(
            self._data.train,
            self._data,
            batch_size=max(1, self._config.batch_size // place.world_size),
            device=place.device,
            train=True,
            seed=self._seed,
            epoch=epoch,
            channels_last=True,
            rank=place.rank,
            world_size=place.world_size,
            num_workers=place.decode_threads,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingJob(abc.ABC):
    """What the jobs share.

    Args:
        network: Initial network; its space holds every architecture.
        training: Recipe.
        seed: Of weights, shuffling, augmentation and sub-networks.
    """

    network: NetworkSpec
    training: TrainingConfig
    seed: int = 0

    @abc.abstractmethod
    def start(self, data: ImageData, place: Place) -> RunningJob:
        """Build model, optimizer and data for this worker; all workers start from the same weights."""

    def final_metrics(self, running: RunningJob, data: ImageData, place: Place) -> dict[str, float]:
        """Return what is measured once, after the last epoch."""
        return {}


@dataclass(frozen=True, kw_only=True)
class SupernetJob(TrainingJob):
    """Train a supernet with ordered dropout.

    Args:
        num_subnets: Sub-networks per step, over all workers together; the batch is cut into as many parts.
        is_masked: Instead give each image its own sub-network, by masks.
    """

    num_subnets: int = 6
    is_masked: bool = False

    def start(self, data: ImageData, place: Place) -> RunningJob:
        """Build the supernet."""
        torch.manual_seed(self.seed)
        supernet = Supernet(MobileSpace(self.network))
        place.put(supernet)
        generator = np.random.default_rng()
        options: dict[str, Any] = {
            "label_smoothing": self.training.label_smoothing,
            "rank": place.rank,
            "world_size": place.world_size,
        }
        if self.is_masked:
            backward = losses.masked_ordered_dropout(supernet, generator, **options)
        else:
            backward = losses.ordered_dropout(supernet, generator, num_subnets=self.num_subnets, **options)
        return RunningJob(supernet, self.training, backward, data, place, seed=self.seed, generator=generator)


@dataclass(frozen=True, kw_only=True)
class NetworkJob(TrainingJob):
    """Train one architecture as a plain network, from fresh weights or from those it inherits.

    Args:
        architecture: Which.
        supernet_weights: Weights of a trained supernet: of the teacher, and to inherit from.
        inherits: Whether to start from the supernet's weights.
        distillation: Weight of the teacher's part of the loss; 0 trains on labels alone. The teacher is the
            supernet's largest network.
        temperature: Of the teacher's probabilities.

    Raises:
        ValueError: If a teacher or inheritance is wanted without supernet weights.
    """

    architecture: Architecture
    supernet_weights: Weights = field(default_factory=dict, repr=False, compare=False)
    inherits: bool = False
    distillation: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if (self.inherits or self.distillation) and not self.supernet_weights:
            raise ValueError("`supernet_weights` must be given to inherit from or to distil from, got none.")

    def start(self, data: ImageData, place: Place) -> RunningJob:
        """Build the network, and its teacher if there is one."""
        torch.manual_seed(self.seed)
        space = MobileSpace(self.network)
        network = PlainNetwork(space.plan(self.architecture))
        teacher: PlainNetwork | None = None
        if self.supernet_weights:
            supernet = load_supernet(space, self.supernet_weights)
            if self.inherits:
                network = supernet.extract(self.architecture)
            if self.distillation:
                teacher = supernet.extract(space.largest())
        network.set_survival(self.training.survival)
        place.put(network)
        return RunningJob(
            network,
            self.training,
            self._backward(network, teacher, data, place),
            data,
            place,
            seed=self.seed,
            generator=np.random.default_rng(),
        )

    def final_metrics(self, running: RunningJob, data: ImageData, place: Place) -> dict[str, float]:
        """Return the averaged network's accuracy on the test images."""
        batches = Batches(
            data.test,
            data,
            batch_size=256,
            device=place.device,
            channels_last=True,
            num_workers=place.decode_threads,
        )
        return {"test_accuracy": evaluate(running.trainer.evaluated.eval(), batches)["accuracy"]}

    def _backward(self, network: nn.Module, teacher: PlainNetwork | None, data: ImageData, place: Place) -> Backward:
        smoothing = self.training.label_smoothing
        if teacher is None:
            return losses.cross_entropy(network, label_smoothing=smoothing)
        place.put(teacher)
        calibrate_on_training_images(teacher, data, place.device)
        return losses.distillation(
            network,
            teacher,
            label_smoothing=smoothing,
            weight=self.distillation,
            temperature=self.temperature,
        )


def calibrate_on_training_images(network: nn.Module, data: ImageData, device: str, *, num_images: int = 1024) -> None:
    """Take batch-norm statistics of a network that was extracted from a supernet anew."""
    split = data.train.subset(torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:num_images])
    recalibrate(network, Batches(split, data, batch_size=256, device=device, channels_last=True))


def load_supernet(space: MobileSpace, weights: Weights) -> Supernet:
    """Return a supernet with a copy of these weights, in eval mode.

    A copy, since arrays from an object store are shared by all processes of a node and writable through torch.
    """
    supernet = Supernet(space)
    supernet.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return supernet.eval()


def to_numpy(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a model's weights and buffers as numpy arrays."""

    def array(value: Tensor) -> np.ndarray:
        return value.detach().cpu().contiguous().numpy().copy()

    return {name: array(value) for name, value in model.state_dict().items()}
