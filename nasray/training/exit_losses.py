"""What a training step of a network with several classifiers minimises.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from nasray.models.anytime import AnytimeNetwork
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.training.trainer import Backward


def exit_cross_entropy(
    network: AnytimeNetwork, *, weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Backward:
    """Train all exits of a network at once: the weighted sum of their cross entropies.

    Args:
        network: With one or more exits.
        weights: Of each exit's loss; None gives all of them 1.
        label_smoothing: Share of the label spread over all classes.

    Raises:
        ValueError: If there is not one weight for each exit, or a weight is negative, or all are 0.

    Source: Cioflan and Timofte 2020 (MS-RANAS), eq. 3 (equal weights). Deviation: none.
    """
    factors = [1.0] * network.num_exits if weights is None else list(weights)
    if len(factors) != network.num_exits or min(factors) < 0 or max(factors) == 0:
        raise ValueError(
            f"`weights` must be {network.num_exits} numbers, none negative and one positive, got {factors}. One weight "
            "belongs to each exit."
        )

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        loss = weighted_cross_entropy(network.all_exits(images), labels, factors, label_smoothing=label_smoothing)
        scale(loss).backward()
        return loss.detach()

    return backward


def auxiliary_cross_entropy(
    network: MultiScaleNetwork, *, weight: float = 0.4, label_smoothing: float = 0.0
) -> Backward:
    """Train a network with an auxiliary head: its cross entropy and, weighted, that of the head.

    Raises:
        ValueError: If the weight is negative or the network has no auxiliary head.

    Source: Liu et al. 2019 (DARTS), Sec. 3.3 and appendix A.2 (weight 0.4). Deviation: none.
    """
    if weight < 0 or not network.plan.settings.has_auxiliary:
        raise ValueError(
            f"`weight` must not be negative, got {weight}, and `network` must have an auxiliary head. Build it with "
            "`has_auxiliary`."
        )

    def backward(images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        logits = list(network.with_auxiliary(images))
        loss = weighted_cross_entropy(logits, labels, [1.0, weight], label_smoothing=label_smoothing)
        scale(loss).backward()
        return loss.detach()

    return backward


def weighted_cross_entropy(
    logits: Sequence[Tensor], labels: Tensor, weights: Sequence[float], *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the weighted sum of several classifiers' mean cross entropies, a scalar.

    Args:
        logits: Of each classifier, (B, K).
        labels: Classes, (B).
        weights: Of each classifier.
        label_smoothing: Share of the label spread over all classes.
    """
    losses = [
        weight * F.cross_entropy(found.float(), labels, label_smoothing=label_smoothing)
        for found, weight in zip(logits, weights, strict=True)
        if weight
    ]
    return sum(losses[1:], losses[0])
