"""A differentiable search under way: one epoch at a time, resumable between epochs.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasray.data import ImageData
from nasray.differentiable.bilevel import StepResult, search_step, weight_step
from nasray.differentiable.collapse import POOLINGS, SKIPS, count
from nasray.differentiable.config import SearchConfig
from nasray.differentiable.derivation import derive
from nasray.differentiable.expected_cost import CostTerm
from nasray.differentiable.memory import check_memory
from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.differentiable.search_images import Pair, SearchImages
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.evaluate import evaluate
from nasray.training.exit_losses import weighted_cross_entropy
from nasray.training.trainer import DivergedError


class DifferentiableSearch:
    """Trains a relaxed network and its architecture parameters in turns.

    Args:
        settings: Layout of the relaxed network.
        config: The recipe.
        data: Images of the layout's size and classes; the training part is cut in two, holdout and test stay unseen.
        device: Where to compute; on GPUs that can, in bfloat16 but for the look-ahead of the second order.
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
        self.settings, self.config, self.cost, self.seed = settings, config, cost, seed
        self._device = torch.device(device)
        self._images = SearchImages(
            data,
            settings,
            batch_size=config.batch_size,
            weights_share=config.weights_share,
            device=self._device,
            decode_threads=decode_threads,
            seed=seed,
        )
        self.memory_bytes = check_memory(
            settings, batch_size=config.batch_size, order=config.order, device=self._device
        )
        with self._images.initial_randomness():
            self.network = RelaxedNetwork(settings, relaxation=config.relaxation).to(self._device)
        if cost is not None:
            cost.forbid_broken(self.network)
        self._initial_cost = self.expected_cost()
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
        self._last_genotype = derive(self.network)
        self._kept_genotype: Genotype | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the search collapsed and is to stop then."""
        return self.epoch >= self.config.epochs or (self.has_collapsed and self.config.stops_at_collapse)

    @property
    def steps_per_epoch(self) -> int:
        """Search steps in an epoch."""
        return self._images.steps_per_epoch

    def genotype(self) -> Genotype:
        """Return the cells that the architecture parameters stand for now; of a search that stopped, those before."""
        return self._kept_genotype or derive(self.network)

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
            architecture's images, the latter only where the architecture moves; `num_images` of the former;
            `learning_rate`; `num_skips` and `num_poolings` of the normal cell derived now; with a cost, `expected_` and
            `derived_` with its unit: of the mixture, and of the network derived now.

        Raises:
            DivergedError: If a loss is not finite.
        """
        rate = self.config.rate(self.epoch)
        for group in self._weight_optimizer.param_groups:
            group["lr"] = rate
        self.network.set_temperature(self.config.temperature(self.epoch))
        self.network.train()
        num_images, results = 0, []
        with self._images.randomness(self.epoch):
            for train, valid in self._images.pairs(self.epoch):
                results.append(self._step(train, valid))
                num_images += len(train[1])
        self.epoch += 1
        losses = _means(results)
        if not np.isfinite(list(losses.values())).all():
            found = " and ".join(f"{value:g}" for value in losses.values())
            raise DivergedError(f"The losses of epoch {self.epoch} are {found}. Lower the learning rates.")
        return losses | {"num_images": num_images, "learning_rate": rate} | self._watch()

    def holdout_metrics(self) -> dict[str, float]:
        """Return `accuracy` and `loss` of the relaxed network's last exit on the held-out images."""
        return evaluate(self.network.eval(), self._images.holdout())

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next epoch depends on; batches and noise depend on seed and epoch alone."""
        return {
            "epoch": self.epoch,
            "has_collapsed": self.has_collapsed,
            "last_genotype": self._last_genotype.to_json(),
            "kept_genotype": self._kept_genotype and self._kept_genotype.to_json(),
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
        self._last_genotype = Genotype.from_json(state["last_genotype"])
        kept = state["kept_genotype"]
        self._kept_genotype = None if kept is None else Genotype.from_json(kept)
        self._initial_cost = state["initial_cost"]
        self.network.load_state_dict(state["network"])
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])

    def _step(self, train: Pair, valid: Pair) -> StepResult:
        for mixture in self.network.mixtures:
            mixture.draw()
        if self.epoch < self.config.frozen_epochs:
            clip = self.config.gradient_clip
            loss = weight_step(lambda: self._loss(*train), self._weights, self._weight_optimizer, gradient_clip=clip)
            return StepResult(loss, None)
        # The look-ahead compares losses at almost the same weights, which only single precision can tell apart.
        is_mixed = self.config.order == 1
        return search_step(
            lambda: self._loss(*train, is_mixed=is_mixed),
            lambda: self._loss(*valid, is_mixed=is_mixed),
            alphas=self._alphas,
            weights=self._weights,
            alpha_optimizer=self._alpha_optimizer,
            weight_optimizer=self._weight_optimizer,
            order=self.config.order,
            gradient_clip=self.config.gradient_clip,
            cost=None if self.cost is None else self._cost_loss,
            weights_loss=lambda: self._loss(*train),
        )

    def _loss(self, images_BCHW: Tensor, labels_B: Tensor, *, is_mixed: bool = True) -> Tensor:
        """Return the equal-weight sum of the exits' cross entropies."""
        with torch.autocast(self._device.type, self._dtype, enabled=is_mixed and self._dtype is not None):
            logits = self.network.all_exits(images_BCHW)
        return weighted_cross_entropy(logits, labels_B, [1.0] * len(logits))

    def _cost_loss(self) -> Tensor:
        assert self.cost is not None and self._initial_cost is not None
        return self.cost.loss(self.network, initial=self._initial_cost)

    def _watch(self) -> dict[str, float]:
        """Ask the monitor, and return what describes the architecture now."""
        genotype, cost = derive(self.network), self.expected_cost()
        if self.config.monitor is not None and self.config.monitor.has_collapsed(genotype):
            self.has_collapsed = True
            if self.config.stops_at_collapse:
                self._kept_genotype = self._last_genotype
        self._last_genotype = genotype
        found = {
            "num_skips": float(count(genotype.normal, SKIPS)),
            "num_poolings": float(count(genotype.normal, POOLINGS)),
        }
        if self.cost is not None and cost is not None:
            found[f"expected_{self.cost.table.unit}"] = cost
            found[f"derived_{self.cost.table.unit}"] = self.cost.table.derived(self.network)
        return found


def _means(results: list[StepResult]) -> dict[str, float]:
    """Return the means of both losses; the architecture's only if it was computed."""
    means = {"loss": float(torch.stack([result.train_loss for result in results]).mean())}
    if valid_losses := [result.valid_loss for result in results if result.valid_loss is not None]:
        means["valid_loss"] = float(torch.stack(valid_losses).mean())
    return means


def _mixed_dtype(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 where a GPU has it: half precision would need its losses scaled, in four passes for a step."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
