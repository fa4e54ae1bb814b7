"""What a training step minimises.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.models.parallel_passes import run_passes
from nasray.models.subnet_pass import SubnetPass
from nasray.models.supernet import Supernet
from nasray.spaces.network_plan import NetworkPlan
from nasray.training.trainer import Backward


def ordered_dropout(
    supernet: Supernet,
    generator: np.random.Generator,
    *,
    num_subnets: int,
    label_smoothing: float = 0.0,
    rank: int = 0,
    world_size: int = 1,
) -> Backward:
    """Train many sub-networks in one step, each option of each layer almost equally often.

    The batch is cut into `num_subnets` equal parts; each is seen by its own sub-network, which computes only the
    channels that it keeps, and the gradients add up to those of the mean loss over the batch. Batch norm takes its
    statistics over the images of a sub-network. With as many sub-networks as images this is the paper's ordered
    dropout but for batch norm; see `masked_ordered_dropout` for that.

    Source: Yang et al. 2021, Sec. 2.3. Deviation: images of one part share a sub-network, so that dropped channels
    need not be computed.

    Args:
        supernet: In training mode.
        generator: Draws the sub-networks.
        num_subnets: Sub-networks per step, over all workers together; at most the batch, at least one per worker.
        label_smoothing: Share of the label spread over all classes.
        rank: Number of this worker. All draw the same sub-networks, from generators in the same state, and each
            trains its own part of them: the step is the one that a single worker would make.
        world_size: How many workers share the step.
    """

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        # Batch norm cannot take statistics of a single image at 1x1 pixels: parts have at least two.
        count = max(1, min(num_subnets // world_size, len(labels) // 2))
        seeds = torch.randint(2**63 - 1, (count,)).tolist()
        parts = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
        networks = supernet.space.balanced(count * world_size, generator)[rank * count :][:count]
        plans = [supernet.space.plan(network) for network in networks]

        def run(item: tuple[NetworkPlan, int, tuple[Tensor, Tensor]]) -> tuple[SubnetPass, Tensor]:
            plan, seed, (part, targets) = item
            with SubnetPass(seed) as subnet_pass:
                logits = supernet.forward_planned(part, plan).float()
                loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum") / len(labels)
                scale(loss).backward()
            return subnet_pass, loss.detach()

        def merge(result: tuple[SubnetPass, Tensor]) -> None:
            result[0].merge()
            total.add_(result[1])

        total = torch.zeros((), device=labels.device)
        items = list(zip(plans, seeds, parts, strict=True))
        items.sort(key=lambda item: -item[0].macs)  # the dearest first: threads end at about the same time
        run_passes(run, merge, items, labels.device)
        return total

    return backward


def masked_ordered_dropout(
    supernet: Supernet,
    generator: np.random.Generator,
    *,
    label_smoothing: float = 0.0,
    rank: int = 0,
    world_size: int = 1,
) -> Backward:
    """Train one sub-network per image in a single pass, by zeroing what each image's sub-network lacks.

    Batch norm takes its statistics over the images of this worker. For the arguments see `ordered_dropout`.

    Source: Yang et al. 2021, Sec. 2.3, Fig. 4 and 5. Deviation: none.
    """

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        count = len(labels)
        architectures = supernet.space.balanced(count * world_size, generator)[rank * count :][:count]
        logits = supernet.forward_masked(images, architectures).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        scale(loss).backward()
        return loss.detach()

    return backward


def cross_entropy(model: nn.Module, *, label_smoothing: float = 0.0) -> Backward:
    """Train one network against the labels."""

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        loss = F.cross_entropy(model(images).float(), labels, label_smoothing=label_smoothing)
        scale(loss).backward()
        return loss.detach()

    return backward


def distillation(
    model: nn.Module, teacher: nn.Module, *, label_smoothing: float = 0.0, weight: float = 0.5, temperature: float = 1.0
) -> Backward:
    """Train one network against the labels and a teacher's probabilities.

    The loss is (1 - weight) x cross entropy + weight x temperature^2 x KL(teacher || model).

    Source: Hinton et al. 2015; Yang et al. 2021, appendix A.1 (teacher only). Deviation: the paper names neither
    weight nor temperature.

    Raises:
        ValueError: If the weight is not in [0, 1] or the temperature not positive.
    """
    if not 0 <= weight <= 1 or not temperature > 0:
        raise ValueError(f"`weight` must be in [0, 1] and `temperature` positive, got {weight} and {temperature}.")
    teacher.eval().requires_grad_(False)

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            target = F.log_softmax(teacher(images).float() / temperature, 1)
        logits = model(images).float()
        hard = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        soft = F.kl_div(F.log_softmax(logits / temperature, 1), target, reduction="batchmean", log_target=True)
        loss = (1 - weight) * hard + weight * temperature**2 * soft
        scale(loss).backward()
        return loss.detach()

    return backward
