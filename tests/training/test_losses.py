import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasray.models.supernet import Supernet
from nasray.spaces.mobile_networks import mobile_space
from nasray.training import losses

SPACE = mobile_space("mobile-8", num_classes=10, in_channels=1)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(16, 1, 8, 8), torch.randint(10, (16,))


def supernet():
    torch.manual_seed(1)
    return Supernet(SPACE).train()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def without_dropout(model):
    """Dropout draws differ between passes: compare without."""
    return model.eval()


def test_ordered_dropout_sums_gradients_to_the_mean_loss_over_the_batch(batch):
    images, labels = batch
    model = without_dropout(supernet())
    losses.ordered_dropout(model, np.random.default_rng(0), num_subnets=4)(images, labels, lambda loss: loss)
    got = gradients(model)
    model.zero_grad()
    architectures = SPACE.balanced(4, np.random.default_rng(0))
    each = [architecture for architecture in architectures for _ in range(4)]
    F.cross_entropy(model.forward_masked(images, each), labels).backward()
    for name, expected in gradients(model).items():
        if name in got:
            assert torch.allclose(got[name], expected, rtol=1e-3, atol=1e-5 + 1e-4 * float(expected.abs().max())), name
        else:
            assert float(expected.abs().max()) < 1e-6, name


def test_ordered_dropout_returns_the_mean_loss(batch):
    images, labels = batch
    model = without_dropout(supernet())
    loss = losses.ordered_dropout(model, np.random.default_rng(0), num_subnets=2)(images, labels, lambda loss: loss)
    total = 0.0
    for part, architecture in enumerate(SPACE.balanced(2, np.random.default_rng(0))):
        rows = slice(8 * part, 8 * part + 8)
        model.activate(architecture)
        total += float(F.cross_entropy(model(images[rows]), labels[rows], reduction="sum").detach())
    assert float(loss) == pytest.approx(total / 16, rel=1e-5)


def test_masked_ordered_dropout_gives_every_image_a_subnet_of_its_own(batch, monkeypatch):
    seen = []
    model = supernet()
    forward = model.forward_masked
    monkeypatch.setattr(model, "forward_masked", lambda x, a: seen.append(list(a)) or forward(x, a))
    losses.masked_ordered_dropout(model, np.random.default_rng(0))(*batch, lambda loss: loss)
    assert len(seen[0]) == 16
    widths = [architecture["stem.conv.width"] for architecture in seen[0]]
    counts = [widths.count(option) for option in SPACE.choices["stem.conv.width"]]
    assert max(counts) - min(counts) <= 1


def test_distillation_without_a_teacher_part_is_cross_entropy(batch):
    images, labels = batch
    student, teacher = supernet().extract(SPACE.largest()).eval(), supernet().extract(SPACE.largest())
    loss = losses.distillation(student, teacher, weight=0.0)(images, labels, lambda loss: loss)
    expected = F.cross_entropy(student(images), labels).detach()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_distillation_from_itself_is_zero_and_leaves_the_teacher_alone(batch):
    images, labels = batch
    network = supernet().extract(SPACE.largest()).eval()
    teacher = supernet().extract(SPACE.largest())
    loss = losses.distillation(network, teacher, weight=1.0, temperature=2.0)(images, labels, lambda loss: loss)
    assert float(loss) == pytest.approx(0.0, abs=1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())


class FixedLogits(torch.nn.Module):
    """Says the same whatever it is shown."""

    def __init__(self, logits_BK):
        super().__init__()
        self.logits_BK = torch.nn.Parameter(torch.tensor(logits_BK))

    def forward(self, images):
        return self.logits_BK


def softmax(logits_BK):
    powers_BK = np.exp(np.array(logits_BK))
    return powers_BK / powers_BK.sum(axis=1, keepdims=True)


def test_distillation_is_the_formula_of_its_docstring():
    said_BK, taught_BK = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]], [[-1.0, 0.5, 3.0], [0.5, 0.0, 1.5]]
    weight, temperature, labels = 0.3, 2.5, [2, 0]
    student = FixedLogits(said_BK)
    step = losses.distillation(student, FixedLogits(taught_BK), weight=weight, temperature=temperature)
    loss = step(torch.zeros(2, 1), torch.tensor(labels), lambda loss: loss)

    sharp_BK, is_label_BK = softmax(said_BK), np.eye(3)[labels]
    soft_BK, target_BK = softmax(np.array(said_BK) / temperature), softmax(np.array(taught_BK) / temperature)
    hard = -np.log(sharp_BK[is_label_BK > 0]).mean()
    divergence = (target_BK * np.log(target_BK / soft_BK)).sum(axis=1).mean()  # KL(teacher || student)
    assert float(loss) == pytest.approx((1 - weight) * hard + weight * temperature**2 * divergence, rel=1e-5)
    # The gradient of KL by the logits is (student - teacher) / temperature: as large as the labels' at any temperature.
    slope_BK = (1 - weight) * (sharp_BK - is_label_BK) + weight * temperature * (soft_BK - target_BK)
    np.testing.assert_allclose(student.logits_BK.grad.numpy(), slope_BK / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("weight", "temperature"), [(1.5, 1.0), (-0.1, 1.0), (0.5, 0.0)])
def test_distillation_refuses_what_cannot_be(weight, temperature):
    network = supernet().extract(SPACE.largest())
    with pytest.raises(ValueError, match="must be in"):
        losses.distillation(network, network, weight=weight, temperature=temperature)
