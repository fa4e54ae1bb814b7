"""Gradients of both orders against closed forms and autograd's own second derivatives."""

import pytest
import torch
from torch import nn

from nasray.differentiable.bilevel import first_order_gradients, search_step, second_order_gradients


class Toy:
    """Weights (3) and architecture parameters (2) in losses that couple them beyond second degree."""

    def __init__(self):
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.a = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.matrix = torch.randn(3, 2, dtype=torch.float64)
        self.sgd = torch.optim.SGD([self.w], lr=0.1, momentum=0.9, weight_decay=0.01)

    def train_loss(self, w=None, a=None):
        w, a = self.w if w is None else w, self.a if a is None else a
        return ((w**2) @ torch.sin(self.matrix @ a)) + (w @ self.matrix @ a) ** 2

    def valid_loss(self, w=None, a=None):
        w, a = self.w if w is None else w, self.a if a is None else a
        return torch.exp(0.3 * w).sum() + (w[:2] * a**2).sum()

    def look_ahead(self, a):
        """The validation loss after a step of SGD with momentum and weight decay."""
        w = self.w
        (gradient,) = torch.autograd.grad(self.train_loss(w, a), w, create_graph=True)
        step = gradient + 0.01 * w
        buffer = self.sgd.state[w].get("momentum_buffer")
        return self.valid_loss(w - 0.1 * (step if buffer is None else step + 0.9 * buffer), a)


def test_first_order_gradients_are_those_by_hand():
    toy = Toy()
    (gradient,), loss = first_order_gradients(toy.valid_loss, [toy.a])
    torch.testing.assert_close(gradient, (2 * toy.w[:2] * toy.a).detach())  # of w1 a1^2 + w2 a2^2
    assert loss.item() == pytest.approx(toy.valid_loss().item())
    assert toy.w.grad is None


@pytest.mark.parametrize("has_momentum", [False, True])
def test_second_order_gradients_are_those_of_autograd(has_momentum):
    toy = Toy()
    if has_momentum:
        toy.train_loss().backward()
        toy.sgd.step()
    before = toy.w.detach().clone()
    (gradient,), loss = second_order_gradients(toy.train_loss, toy.valid_loss, [toy.a], [toy.w], toy.sgd)
    ahead = toy.look_ahead(toy.a)
    (exact,) = torch.autograd.grad(ahead, toy.a)
    (first,), _ = first_order_gradients(toy.valid_loss, [toy.a])
    torch.testing.assert_close(gradient, exact, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(first, exact, rtol=0.05)
    assert loss.item() == pytest.approx(ahead.item())
    assert torch.equal(toy.w, before)


def test_exact_look_ahead_agrees_with_finite_differences_of_itself():
    toy = Toy()
    (exact,) = torch.autograd.grad(toy.look_ahead(toy.a), toy.a)
    for index in range(2):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[index] = 1e-5
        a = toy.a.detach()
        difference = (
            toy.look_ahead((a + shift).requires_grad_()) - toy.look_ahead((a - shift).requires_grad_())
        ) / 2e-5
        assert difference.item() == pytest.approx(float(exact[index]), rel=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_moves_architecture_first_then_weights(order):
    toy, mirror = Toy(), Toy()
    steps = []
    for one in (toy, mirror):
        steps.append(torch.optim.Adam([one.a], lr=0.1, betas=(0.5, 0.999), weight_decay=1e-3))
    result = search_step(
        toy.train_loss,
        toy.valid_loss,
        alphas=[toy.a],
        weights=[toy.w],
        alpha_optimizer=steps[0],
        weight_optimizer=toy.sgd,
        order=order,
        gradient_clip=0.5,
        cost=lambda: (3 * toy.a).sum(),
    )
    loss = mirror.valid_loss() if order == 1 else mirror.look_ahead(mirror.a)
    mirror.a.grad = torch.autograd.grad(loss + (3 * mirror.a).sum(), mirror.a)[0]
    steps[1].step()
    train_loss = mirror.train_loss()
    mirror.w.grad = torch.autograd.grad(train_loss, mirror.w)[0]
    nn.utils.clip_grad_norm_([mirror.w], 0.5)
    mirror.sgd.step()
    torch.testing.assert_close(toy.a, mirror.a, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(toy.w, mirror.w, rtol=1e-4, atol=1e-6)
    assert result.train_loss.item() == pytest.approx(train_loss.item(), rel=1e-4)
    assert result.valid_loss.item() == pytest.approx(loss.item(), rel=1e-4)


def test_weights_come_back_when_a_pass_fails():
    toy = Toy()
    before = toy.w.detach().clone()

    def fail():
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        second_order_gradients(toy.train_loss, fail, [toy.a], [toy.w], toy.sgd)
    assert torch.equal(toy.w, before)


def test_orders_are_one_and_two():
    toy = Toy()
    with pytest.raises(ValueError, match="`order` must be 1 or 2, got 3"):
        search_step(
            toy.train_loss,
            toy.valid_loss,
            alphas=[toy.a],
            weights=[toy.w],
            alpha_optimizer=toy.sgd,
            weight_optimizer=toy.sgd,
            order=3,
        )
