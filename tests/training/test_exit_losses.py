import pytest
import torch
from torch.nn import functional as F

from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.config import TrainingConfig
from nasray.training.exit_losses import auxiliary_cross_entropy, exit_cross_entropy, weighted_cross_entropy
from nasray.training.trainer import Trainer


def build(**changes):
    torch.manual_seed(0)
    settings = {"scales": 2, "layers": 4, "exits": 3, "channels": 4, "resolution": 8, **changes}
    return MultiScaleNetwork(MultiScalePlan(genotype=DARTS_V2, settings=MultiScaleSettings(**settings)))


def batch(resolution=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, resolution, resolution, generator=generator)
    return images, torch.randint(10, (6,), generator=generator)


def test_all_exits_count_alike_by_default():
    network, (images, labels) = build(), batch()
    loss = exit_cross_entropy(network)(images, labels, lambda loss: 2 * loss)
    losses = [F.cross_entropy(logits, labels) for logits in network.all_exits(images)]
    torch.testing.assert_close(loss, sum(losses).detach())
    found = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    (2 * sum(losses)).backward()
    for gradient, weight in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, atol=1e-5, rtol=1e-4)


def test_weights_count():
    network, (images, labels) = build(), batch()
    loss = exit_cross_entropy(network, weights=[0, 2, 0], label_smoothing=0.1)(images, labels, lambda loss: loss)
    expected = 2 * F.cross_entropy(network.all_exits(images)[1], labels, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected.detach())
    assert network.parts["exit_1"].linear.weight.grad is None
    assert network.parts["exit_2"].linear.weight.grad is not None


def test_auxiliary_head_counts_a_fraction():
    network, (images, labels) = build(scales=1, layers=3, exits=1, resolution=32, has_auxiliary=True), batch(32)
    loss = auxiliary_cross_entropy(network)(images, labels, lambda loss: loss)
    logits, auxiliary = network.with_auxiliary(images)
    expected = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
    torch.testing.assert_close(loss, expected.detach())


def test_the_sum_is_that_of_the_classifiers():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    one = F.cross_entropy(logits, labels)
    torch.testing.assert_close(weighted_cross_entropy([logits, logits], labels, [1.0, 0.5]), 1.5 * one)


def test_the_trainer_lowers_the_loss_of_every_exit():
    network, (images, labels) = build(), batch()
    config = TrainingConfig(epochs=1, batch_size=64, learning_rate=0.05, ema_decay=0)
    trainer = Trainer(network, config, steps_per_epoch=20, backward=exit_cross_entropy(network))

    @torch.no_grad()
    def losses():
        return [float(F.cross_entropy(logits, labels)) for logits in network.all_exits(images)]

    before = losses()
    trainer.run_epoch([(images, labels)] * 20)
    assert all(after < early / 2 for after, early in zip(losses(), before, strict=True))


@pytest.mark.parametrize("weights", [[1], [0, 0, 0], [1, -1, 1]])
def test_weights_that_make_no_loss_are_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be 3 numbers, none negative and one positive, got"):
        exit_cross_entropy(build(), weights=weights)


def test_a_network_without_auxiliary_head_is_refused():
    with pytest.raises(ValueError, match=r"`network` must have an auxiliary head. Build it with `has_auxiliary`"):
        auxiliary_cross_entropy(build())
