"""Bilevel optimisation: architecture parameters for the validation loss, weights for the training loss.

A loss here is a function without arguments that computes a scalar anew at the current values of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]

_PERTURBATION = 0.01  # Liu et al. 2019, footnote 2: epsilon times the norm of the direction


@dataclass(frozen=True)
class StepResult:
    """Losses of a step, detached scalars: of the weights' batch, and of the architecture's without cost terms.

    The latter is None of a step that moved the weights alone.
    """

    train_loss: Tensor
    valid_loss: Tensor | None


def first_order_gradients(valid_loss: Loss, alphas: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return the gradients of the validation loss for the architecture parameters, and the loss.

    The weights count as constants, and their own gradients are not computed.

    Source: Liu et al. 2019 (DARTS), Sec. 2.3, first-order approximation (xi = 0). Deviation: none.
    """
    loss = valid_loss()
    return _gradients(loss, alphas), loss.detach()


def second_order_gradients(
    train_loss: Loss,
    valid_loss: Loss,
    alphas: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    optimizer: torch.optim.SGD,
) -> tuple[list[Tensor], Tensor]:
    """Return the gradients of the validation loss after a step of the weights, and that loss.

    The product of Hessian and vector is a finite difference of gradients at weights moved a little along the vector.
    Weights are left as they were; batch norms see each of the four passes.

    Args:
        train_loss: What the weights' step would minimise.
        valid_loss: What the architecture parameters minimise.
        alphas: Architecture parameters.
        weights: Those of the optimizer.
        optimizer: Whose rate, momentum and weight decay make the step.

    Source: Liu et al. 2019 (DARTS), eq. 6 to 8 and published code, which takes momentum and weight decay into the step.
    Deviation: none.
    """
    (group,) = optimizer.param_groups
    rate = float(group["lr"])
    kept = [weight.detach().clone() for weight in weights]
    steps = _gradients(train_loss(), weights)
    with torch.no_grad():
        torch._foreach_add_(steps, kept, alpha=group["weight_decay"])
        for step, weight in zip(steps, weights, strict=True):
            if (buffer := optimizer.state[weight].get("momentum_buffer")) is not None:
                step.add_(buffer, alpha=group["momentum"])
    try:
        _move(weights, kept, steps, -rate)
        loss = valid_loss()
        found = _gradients(loss, [*alphas, *weights])
        direct, vector = found[: len(alphas)], found[len(alphas) :]
        epsilon = _PERTURBATION / float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vector))))
        sides = []
        for side in (epsilon, -epsilon):
            _move(weights, kept, vector, side)
            sides.append(_gradients(train_loss(), alphas))
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), kept)
    return [
        gradient - rate * (above - below) / (2 * epsilon) for gradient, above, below in zip(direct, *sides, strict=True)
    ], loss.detach()


def weight_step(
    train_loss: Loss, weights: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, *, gradient_clip: float
) -> Tensor:
    """Move the weights by a step and return the loss before it; 0 clips no gradients."""
    loss = train_loss()
    _set_gradients(weights, _gradients(loss, weights))
    if gradient_clip:
        nn.utils.clip_grad_norm_(weights, gradient_clip)
    optimizer.step()
    return loss.detach()


def alpha_step(gradients: Sequence[Tensor], alphas: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Move the architecture parameters along gradients that were computed before."""
    _set_gradients(alphas, gradients)
    optimizer.step()


def search_step(
    train_loss: Loss,
    valid_loss: Loss,
    *,
    alphas: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    alpha_optimizer: torch.optim.Optimizer,
    weight_optimizer: torch.optim.SGD,
    order: int = 1,
    gradient_clip: float = 5.0,
    cost: Loss | None = None,
    weights_loss: Loss | None = None,
) -> StepResult:
    """Move the architecture parameters, then the weights.

    Args:
        train_loss: On a batch of the weights' half of the training images.
        valid_loss: On a batch of the other half.
        alphas: Architecture parameters.
        weights: All other parameters.
        alpha_optimizer: Of the architecture parameters.
        weight_optimizer: Of the weights, one group.
        order: 1, or 2 to look ahead by a step of the weights.
        gradient_clip: Largest norm of the weights' gradient; 0 for none.
        cost: Expected cost to add to the validation loss; depends on the architecture parameters alone.
        weights_loss: What the weights' own step minimises; by default `train_loss`. It may be of lower precision: the
            second order takes differences between the others that rounding would swamp.

    Raises:
        ValueError: If `order` is neither 1 nor 2.

    Source: Liu et al. 2019 (DARTS), Alg. 1 and published code. Deviation: none.
    """
    match order:
        case 1:
            gradients, loss = first_order_gradients(valid_loss, alphas)
        case 2:
            gradients, loss = second_order_gradients(train_loss, valid_loss, alphas, weights, weight_optimizer)
        case _:
            raise ValueError(f"`order` must be 1 or 2, got {order}.")
    if cost is not None:
        torch._foreach_add_(gradients, _gradients(cost(), alphas))
    alpha_step(gradients, alphas, alpha_optimizer)
    own_loss = weights_loss or train_loss
    return StepResult(weight_step(own_loss, weights, weight_optimizer, gradient_clip=gradient_clip), loss)


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients, zeros for what the loss does not depend on."""
    return list(torch.autograd.grad(loss, list(parameters), allow_unused=True, materialize_grads=True))


def _set_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


@torch.no_grad()
def _move(weights: Sequence[nn.Parameter], start: Sequence[Tensor], direction: Sequence[Tensor], length: float) -> None:
    """Set the weights to a point on a line."""
    torch._foreach_copy_(list(weights), torch._foreach_add(list(start), list(direction), alpha=length))
