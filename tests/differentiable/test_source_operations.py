"""Operations computed together against one module per operation, in double precision."""

import pytest
import torch
from torch import nn

from nasray.differentiable.depthwise import depthwise, from_phases, to_phases
from nasray.differentiable.source_operations import SourceOperations
from nasray.models.darts_operations import operation
from nasray.spaces.genotype import OPERATIONS


def modules_of(operations):
    """The same operations one by one: a list for each edge."""
    found = nn.ModuleList()
    for edge in range(operations.num_edges):
        modules = nn.ModuleList()
        for name in OPERATIONS:
            module = operation(name, operations.channels, operations.stride, affine=False, has_pool_norm=True)
            module.double().load_state_dict(operations.tensors(edge, name), strict=False)
            modules.append(module)
        found.append(modules)
    return found


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("is_training", [True, False])
def test_outputs_and_gradients_are_those_of_separate_modules(size, stride, is_training):
    torch.manual_seed(0)
    together = SourceOperations(3, 4, stride).double().train(is_training)
    apart = modules_of(together).train(is_training)
    x_BCHW = torch.randn(2, 4, size, size, dtype=torch.float64, requires_grad=True)
    weights_EO = torch.softmax(torch.randn(3, len(OPERATIONS), dtype=torch.float64), dim=1).requires_grad_()
    outputs = together(x_BCHW, weights_EO)
    expected = [
        sum(weight * module(x_BCHW) for weight, module in zip(row, modules, strict=True))
        for row, modules in zip(weights_EO, apart, strict=True)
    ]
    torch.testing.assert_close(outputs, expected)
    probes = [torch.randn_like(output) for output in outputs]
    found, wanted = (
        torch.autograd.grad(values, [x_BCHW, weights_EO, *module.parameters()], probes)
        for values, module in ((outputs, together), (expected, apart))
    )
    torch.testing.assert_close(found[:2], wanted[:2])
    assert sum(g.square().sum() for g in found) == pytest.approx(float(sum(g.square().sum() for g in wanted)))


def test_statistics_move_as_those_of_separate_modules():
    torch.manual_seed(1)
    together = SourceOperations(2, 4, 2).double()
    apart = modules_of(together)
    x_BCHW = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    together(x_BCHW, torch.full((2, len(OPERATIONS)), 0.125, dtype=torch.float64))
    for edge, modules in enumerate(apart):
        for name, module in zip(OPERATIONS, modules, strict=True):
            module(x_BCHW)
            own = {key: value for key, value in module.state_dict().items() if "num_batches" not in key}
            torch.testing.assert_close(together.tensors(edge, name), own)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_wide_kernels_have_the_gradients_of_torch(stride, size):
    torch.manual_seed(2)
    x_BCHW = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    found = depthwise(x_BCHW, weight, stride=stride)
    expected = nn.functional.conv2d(x_BCHW, weight, None, stride, 2, 1, 3)
    probe = torch.randn_like(found)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, [x_BCHW, weight], probe), torch.autograd.grad(expected, [x_BCHW, weight], probe)
    )


def test_phases_come_back_and_turn_dilation_into_none():
    torch.manual_seed(3)
    x_BCHW, weight = torch.randn(2, 3, 8, 6), torch.randn(3, 1, 3, 3)
    torch.testing.assert_close(from_phases(to_phases(x_BCHW)), x_BCHW)
    torch.testing.assert_close(from_phases(depthwise(to_phases(x_BCHW), weight)), depthwise(x_BCHW, weight, dilation=2))


def test_mixed_precision_gives_about_the_same():
    torch.manual_seed(4)
    operations, x_BCHW = SourceOperations(2, 8, 1), torch.randn(4, 8, 8, 8)
    weights_EO = torch.full((2, len(OPERATIONS)), 0.125)
    exact = torch.stack(operations(x_BCHW, weights_EO))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = torch.stack(operations(x_BCHW.bfloat16(), weights_EO))
    mixed.float().sum().backward()
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, atol=0.05, rtol=0.05)
