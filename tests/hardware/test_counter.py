"""Multiply-adds of modules that no search space describes."""

import pytest
import torch
from torch import nn

from nasray.hardware.counter import count_macs
from nasray.hardware.module_costs import module_costs


class Scaled(nn.Module):
    """Computes with a tensor that is neither parameter nor buffer, and with a value of it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.scale = torch.full((6,), 2.0)

    def forward(self, values):
        return self.layer(values * self.scale) * self.scale[0].item()


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(5, 8))
        self.bias = nn.Parameter(torch.ones(5))

    def forward(self, values):
        row = values[0]
        return self.matrix.mv(row) + torch.addmv(self.bias, self.matrix, row) + row.dot(row)


class Broken(nn.Module):
    def forward(self, values):
        raise RuntimeError("no layer here")


def test_a_module_that_computes_with_values_is_counted() -> None:
    module = Scaled()
    assert count_macs(module, (3, 6)) == 3 * 6 * 4
    costs = module_costs(module, (3, 6), latency_budget_s=0)
    assert costs["macs"].value == 3 * 6 * 4
    # Weights, and the largest input and output of an operation, here of the product: in float32.
    assert costs["memory_bytes"].value == 4 * (6 * 4 + 4) + 4 * (3 * 6 + 6 + 3 * 6)
    assert module.scale.device.type == "cpu" and module.training


def test_products_with_vectors_count() -> None:
    assert count_macs(Vectors(), (1, 8)) == 5 * 8 + 5 * 8 + 8


def test_what_is_wrong_with_a_module_comes_out() -> None:
    with pytest.raises(RuntimeError, match="no layer here"):
        count_macs(Broken(), (1, 8))
