"""The memory of modules that no search space describes, before and after their export."""

import pytest
import torch
from torch import nn

from nasray.hardware.module_costs import module_costs


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.classifier = nn.Linear(8, 5)

    def forward(self, images):
        features = torch.relu_(self.norm(self.first(images)))
        return self.classifier((features + self.second(features)).mean((2, 3)).flatten(1))


class Attention(nn.Module):
    """Attends over all pixels, so that the map of attention is the largest tensor."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, pixels):
        queries, keys, values = self.project(pixels).chunk(3, dim=-1)
        return torch.softmax(queries @ keys.transpose(1, 2), dim=-1) @ values


class Views(nn.Module):
    def forward(self, values):
        return values.expand(50, -1, -1).transpose(0, 1)[:3].flatten(0, 1).unsqueeze(0)[..., :2].sum()


def memory(module, shape):
    return module_costs(module, shape, latency_budget_s=0)["memory_bytes"].value


def exported(module, shape, path):
    """The module as a file gives it back."""
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),)), path)
    return torch.export.load(path).module(check_guards=False)


def weights(module):
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def test_memory_is_that_of_weights_and_the_largest_operation() -> None:
    # The sum of the residual has two inputs and an output; the map of attention goes into softmax and comes out.
    assert memory(Residual(), (2, 3, 16, 16)) == weights(Residual()) + 3 * 4 * 2 * 8 * 16 * 16
    assert memory(Attention(), (2, 64, 4)) == weights(Attention()) + 2 * 4 * 2 * 64 * 64
    layer = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(inplace=True), nn.Flatten())
    assert memory(layer, (1, 3, 8, 8)) == weights(layer) + 4 * (3 * 8 * 8 + 7 * 6 * 6)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's, about programs of its own
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Residual(), (1, 3, 16, 16)),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 5)),
            (1, 3, 16, 16),
        ),
        (Attention(), (1, 64, 4)),
        (nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True), (1, 40, 8)),
    ],
)
def test_an_export_takes_the_memory_of_what_was_exported(module, shape, tmp_path) -> None:
    before = memory(module, shape)
    after = memory(exported(module, shape, tmp_path / "model.pt2"), shape)
    assert weights(module) + 4 * 3 * 16 * 16 < before
    assert after == pytest.approx(before, rel=0.02)


def test_views_take_no_memory() -> None:
    flat = Views()
    # Flattening what was expanded and turned copies 3 x 50 x 6 values; all else are views.
    assert memory(flat, (1, 4, 6)) <= 4 * (4 * 6 + 3 * 50 * 6)


def test_fused_attention_stays_as_it_was() -> None:
    was = torch.backends.mha.get_fastpath_enabled()
    memory(nn.TransformerEncoderLayer(8, 2, batch_first=True), (1, 10, 8))
    assert torch.backends.mha.get_fastpath_enabled() == was
