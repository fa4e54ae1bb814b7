"""A differentiable search under way: one epoch at a time, resumable between epochs.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasray.data import Batches, ImageData, Split
from nasray.differentiable.bilevel import StepResult, search_step
from nasray.differentiable.collapse import count_skips
from nasray.differentiable.config import SearchConfig
from nasray.differentiable.derivation import derive
from nasray.differentiable.expected_cost import CostTerm
from nasray.differentiable.memory import check_memory
from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.evaluate import evaluate
from nasray.training.exit_losses import weighted_cross_entropy
from nasray.training.jobs import Place
from nasray.training.trainer import DivergedError

Pair = tuple[Tensor, Tensor]

_INITIAL, _SPLIT, _EPOCH = 0, 1, 2  # independent streams of randomness


class DifferentiableSearch:
    """Trains a relaxed network and its architecture parameters in turns.

    Args:
        settings: Layout of the relaxed network.
        config: The recipe.
        data: Images of the layout's size and classes; the training part is cut in two, holdout and test stay unseen.
        device: Where to compute; on GPUs that can, in bfloat16.
        seed: Of weights, the cut, batches, augmentation and Gumbel noise.
        cost: Expected cost to search for besides accuracy.

    Raises:
        ValueError: If data and layout do not fit, or a limit on operations leaves none.
        MemoryError: If a step needs more memory than the device has free.

    Source: Liu et al. 2019 (DARTS), Alg. 1; Cioflan and Timofte 2020 (MS-RANAS), eq. 3. Deviation: none.
    """

    def __init__(
        self,
        settings: MultiScaleSettings,
        config: SearchConfig,
        data: ImageData,
        *,
        device: str = "cpu",
        decode_threads: int = 1,
        seed: int = 0,
        cost: CostTerm | None = None,
    ) -> None:
        _check_data(settings, data)
        self.settings, self.config, self.cost, self.seed = settings, config, cost, seed
        self._data, self._device, self._decode_threads = data, torch.device(device), decode_threads
        self.memory_bytes = check_memory(
            settings, batch_size=config.batch_size, order=config.order, device=self._device
        )
        with self._randomness(_INITIAL):
            self.network = RelaxedNetwork(settings, relaxation=config.relaxation).to(self._device)
        if cost is not None:
            cost.forbid_broken(self.network)
        self._initial_cost = self.expected_cost()
        self._halves = self._cut(data.train)
        self._alphas, self._weights = self.network.alphas, self.network.weights
        self._alpha_optimizer = torch.optim.Adam(
            self._alphas,
            lr=config.alpha_learning_rate,
            betas=config.alpha_betas,
            weight_decay=config.alpha_weight_decay,
        )
        self._weight_optimizer = torch.optim.SGD(
            self._weights, lr=config.rate(0), momentum=config.momentum, weight_decay=config.weight_decay
        )
        self._dtype = _mixed_dtype(self._device)
        self.epoch, self.has_collapsed = 0, False

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the search collapsed and is to stop then."""
        return self.epoch >= self.config.epochs or (self.has_collapsed and self.config.stops_at_collapse)

    @property
    def steps_per_epoch(self) -> int:
        """Search steps in an epoch."""
        return len(self._batches(self._halves[0], 0))

    def genotype(self) -> Genotype:
        """Return the cells that the architecture parameters stand for now."""
        return derive(self.network)

    def expected_cost(self) -> float | None:
        """Return the expected cost of the mixture now, in the unit of the cost's table; None without a cost."""
        if self.cost is None:
            return None
        return float(self.cost.table.expected(self.network).detach())

    def run_epoch(self) -> dict[str, float]:
        """Search for one epoch.

        Randomness starts anew from seed and epoch, so that an epoch is the same after a break.

        Returns:
            `loss` and `valid_loss`, means over the steps of the exits' summed cross entropies on the weights' and the
            architecture's images; `num_images` of the former; `num_skips` of the normal cell derived now;
            `learning_rate`; with a cost, `expected_` and its unit.

        Raises:
            DivergedError: If a loss is not finite.
        """
        rate = self.config.rate(self.epoch)
        for group in self._weight_optimizer.param_groups:
            group["lr"] = rate
        self.network.set_temperature(self.config.temperature(self.epoch))
        self.network.train()
        num_images, results = 0, []
        with self._randomness(_EPOCH, self.epoch):
            train, valid = (self._batches(half, self.epoch) for half in self._halves)
            for batch, valid_batch in zip(train, _endless(valid), strict=False):
                results.append(self._step(batch, valid_batch))
                num_images += len(batch[1])
        self.epoch += 1
        loss, valid_loss = (
            float(torch.stack([getattr(result, name) for result in results]).mean())
            for name in ("train_loss", "valid_loss")
        )
        if not np.isfinite([loss, valid_loss]).all():
            raise DivergedError(
                f"The losses of epoch {self.epoch} are {loss} and {valid_loss}. Lower the learning rates."
            )
        return {"loss": loss, "valid_loss": valid_loss, "num_images": num_images, "learning_rate": rate} | self._watch()

    def holdout_metrics(self) -> dict[str, float]:
        """Return `accuracy` and `loss` of the relaxed network's last exit on the held-out images."""
        batches = Batches(
            self._data.holdout,
            self._data,
            batch_size=self.config.batch_size,
            device=self._device,
            channels_last=True,
            num_workers=self._decode_threads,
        )
        return evaluate(self.network.eval(), batches)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next epoch depends on; batches and noise depend on seed and epoch alone."""
        return {
            "epoch": self.epoch,
            "has_collapsed": self.has_collapsed,
            "seed": self.seed,
            "initial_cost": self._initial_cost,
            "network": self.network.state_dict(),
            "weight_optimizer": self._weight_optimizer.state_dict(),
            "alpha_optimizer": self._alpha_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the epoch at which `state_dict` was taken.

        Raises:
            ValueError: If it was taken from a search with another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(f"`state` must be of a search with seed {self.seed}, got one with {state['seed']}.")
        self.epoch, self.has_collapsed = state["epoch"], state["has_collapsed"]
        self._initial_cost = state["initial_cost"]
        self.network.load_state_dict(state["network"])
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])

    def _step(self, train: Pair, valid: Pair) -> StepResult:
        return search_step(
            lambda: self._loss(*train),
            lambda: self._loss(*valid),
            alphas=self._alphas,
            weights=self._weights,
            alpha_optimizer=self._alpha_optimizer,
            weight_optimizer=self._weight_optimizer,
            order=self.config.order,
            gradient_clip=self.config.gradient_clip,
            cost=None if self.cost is None else self._cost_loss,
        )

    def _loss(self, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        """Return the equal-weight sum of the exits' cross entropies."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            logits = self.network.all_exits(images_BCHW)
        return weighted_cross_entropy(logits, labels_B, [1.0] * len(logits))

    def _cost_loss(self) -> Tensor:
        assert self.cost is not None and self._initial_cost is not None
        return self.cost.loss(self.network, initial=self._initial_cost)

    def _watch(self) -> dict[str, float]:
        """Ask the monitor, and return what describes the architecture now."""
        genotype, cost = self.genotype(), self.expected_cost()
        if self.config.monitor is not None and self.config.monitor.has_collapsed(genotype):
            self.has_collapsed = True
        found: dict[str, float] = {"num_skips": count_skips(genotype.normal)}
        if self.cost is not None and cost is not None:
            found[f"expected_{self.cost.table.unit}"] = cost
        return found

    def _cut(self, train: Split) -> tuple[Split, Split]:
        """Return the weights' and the architecture's part of the training images."""
        generator = torch.Generator().manual_seed(_entropy(self.seed, _SPLIT))
        order_N, first = torch.randperm(len(train), generator=generator), round(len(train) * self.config.weights_share)
        return train.subset(order_N[:first].sort().values), train.subset(order_N[first:].sort().values)

    def _batches(self, half: Split, epoch: int) -> Batches:
        return Batches(
            half,
            self._data,
            batch_size=self.config.batch_size,
            device=self._device,
            train=True,
            seed=self.seed,
            epoch=epoch,
            channels_last=True,
            num_workers=self._decode_threads,
        )

    def _randomness(self, *stream: int) -> contextlib.AbstractContextManager[None]:
        """Return a context in which torch's randomness depends on the seed and the stream; it is restored after."""
        return _seeded(_entropy(self.seed, *stream), self._device)


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """A differentiable search in a form that can travel to another process.

    Args:
        settings: Layout of the relaxed network.
        config: The recipe.
        cost: Expected cost to search for besides accuracy.
        seed: Of everything random.
    """

    settings: MultiScaleSettings
    config: SearchConfig
    cost: CostTerm | None = None
    seed: int = 0

    def start(self, data: ImageData, place: Place) -> DifferentiableSearch:
        """Build network, optimizers and data.

        Raises:
            ValueError: If there are several workers, which would need their gradients averaged.
        """
        if place.world_size != 1:
            raise ValueError(f"`place.world_size` must be 1 for a differentiable search, got {place.world_size}.")
        return DifferentiableSearch(
            self.settings,
            self.config,
            data,
            device=place.device,
            decode_threads=place.decode_threads,
            seed=self.seed,
            cost=self.cost,
        )


def _endless(batches: Iterable[Pair]) -> Iterator[Pair]:
    while True:
        yield from batches


def _entropy(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for a while."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _mixed_dtype(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 where a GPU has it: half precision would need its losses scaled, in four passes for a step."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None


def _check_data(settings: MultiScaleSettings, data: ImageData) -> None:
    wanted = (settings.num_classes, settings.in_channels, settings.resolution)
    given = (data.num_classes, data.channels, data.resolution)
    if wanted != given:
        raise ValueError(
            "`data` must have the layout's classes, channels and resolution "
            f"({wanted[0]}, {wanted[1]}, {wanted[2]}), got ({given[0]}, {given[1]}, {given[2]}). Change `settings`."
        )
