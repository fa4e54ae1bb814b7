"""The training loop: one epoch at a time, resumable between epochs, on one worker or several.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nasray.training.config import TrainingConfig

Model = TypeVar("Model", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]


Backward = Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Takes images (B, C, H, W), labels (B) and a scaling of the loss; backpropagates the scaled loss, accumulating
gradients, and returns the loss (a detached scalar)."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch came to: the mean loss over its images, and how many they were, over all workers."""

    loss: float
    num_images: int


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


class Trainer(Generic[Model]):
    """Trains a model with a decaying rate, averaged weights and, on GPUs, mixed precision.

    With `torch.distributed` initialised, gradients are averaged over the workers by hand, since a step may consist
    of several backward passes over different sub-networks.

    Args:
        model: On its device already.
        config: The recipe.
        steps_per_epoch: Optimizer steps in an epoch.
        backward: What a step computes.
    """

    def __init__(self, model: Model, config: TrainingConfig, *, steps_per_epoch: int, backward: Backward) -> None:
        self.model, self.config, self.steps_per_epoch, self.backward = model, config, steps_per_epoch, backward
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.parameters, config)
        self._steps = 0
        self.average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)
        self.epoch = 0
        self._dtype = _mixed_dtype(self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._dtype is torch.float16)

    @property
    def evaluated(self) -> Model:
        """The model to evaluate: averaged weights, or the trained ones where averaging is off."""
        return cast(Model, self.average.module) if self.config.ema_decay else self.model

    def run_epoch(self, batches: Iterable[tuple[Tensor, Tensor]]) -> EpochResult:
        """Train for one epoch.

        Args:
            batches: Images and labels of this worker.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self.model.train()
        total, num_images = torch.zeros((), device=self.device), 0
        for step, (images, labels) in enumerate(batches):
            loss = self._step(images, labels, self.epoch + step / self.steps_per_epoch)
            total += loss * len(labels)
            num_images += len(labels)
        self.epoch += 1
        loss_sum, num_images = _summed(total, num_images)
        mean = loss_sum / max(1, num_images)
        if not torch.isfinite(torch.tensor(mean)):
            raise DivergedError(f"The loss of epoch {self.epoch} is {mean}. Lower the learning rate.")
        return EpochResult(mean, num_images)

    def _step(self, images: Tensor, labels: Tensor, epoch: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(epoch)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            loss = self.backward(images, labels, self._scaler.scale)
        _average_gradients(self.parameters)
        if self.config.gradient_clip:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.config.ema_decay:
            self.average.update_parameters(self.model)
            self._steps += 1
        return loss

    def _average(self, averaged: Tensors, current: Tensors, _: Tensor | int) -> None:
        """Move the averages; early on by more than the decay says, so that they forget the initial weights."""
        # Counted here: the model's own counter lives on the device and would have to be waited for.
        decay = min(self.config.ema_decay, (1 + self._steps) / (10 + self._steps))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)

    def state_dict(self) -> dict[str, object]:
        """Return all that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "steps": self._steps,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue after the epoch at which `state_dict` was taken."""
        self.epoch, self._steps = int(state["epoch"]), int(state["steps"])  # type: ignore[call-overload]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.average.load_state_dict(state["average"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self._scaler.load_state_dict(state["scaler"])  # type: ignore[arg-type]


def _optimizer(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    rate, momentum, penalty = config.rate(0), config.momentum, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=penalty)
    return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-3, momentum=momentum, weight_decay=penalty)


def _mixed_dtype(device: torch.device) -> torch.dtype | None:
    """Return the half precision to compute in, None for full precision."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _summed(loss: Tensor, num_images: int) -> tuple[float, int]:
    """Return the sum of losses and the number of images over the workers."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return float(loss), num_images
    sums = torch.stack([loss.double(), torch.tensor(num_images, dtype=torch.float64, device=loss.device)])
    dist.all_reduce(sums)
    return float(sums[0]), int(sums[1])


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    """Average gradients over the workers; a parameter that no sub-network here used counts as zero."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def average_buffers(model: nn.Module) -> None:
    """Average batch-norm statistics over the workers, so that all hold the same model."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
