import pytest
import torch
from torch import nn

from nasray.models.darts_operations import FactorizedReduce, drop_path, operation
from nasray.spaces.genotype import OPERATIONS
from nasray.spaces.multi_scale_costs import operation_convolutions, total_parameters


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_every_operation_keeps_channels_and_halves_to_the_larger_half(name, stride, side):
    module = operation(name, 5, stride)
    assert module.eval()(torch.randn(2, 5, side, side)).shape == (2, 5, *(-(-side // stride),) * 2)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert parameters == total_parameters(operation_convolutions(name, 5, side, stride=stride))


def test_operations_do_what_their_names_say():
    torch.manual_seed(0)  # a ReLU may hide what a kernel reaches
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(operation("none", 4, 2)(x), torch.zeros(2, 4, 3, 3))
    assert operation("skip_connect", 4)(x) is x
    torch.testing.assert_close(operation("max_pool_3x3", 4)(x)[:, :, 0, 0], x[:, :, :2, :2].amax((2, 3)))
    torch.testing.assert_close(operation("avg_pool_3x3", 4)(x)[:, :, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    reach = {"sep_conv_3x3": 2, "sep_conv_5x5": 4, "dil_conv_3x3": 2, "dil_conv_5x5": 4}
    for name, pixels in reach.items():
        x = torch.randn(1, 4, 13, 13, requires_grad=True)
        operation(name, 4).eval()(x)[0, :, 6, 6].sum().backward()
        rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert (rows.min(), rows.max()) == (6 - pixels, 6 + pixels)


def test_search_operations_have_plain_norms_and_norms_after_pooling():
    for name in OPERATIONS:
        module = operation(name, 4, 2, affine=False, has_pool_norm=True)
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        assert not any(norm.affine for norm in norms)
        assert bool(norms) == (name != "none")
    assert not list(operation("max_pool_3x3", 4).parameters())


def test_factorized_reduction_reads_all_four_pixels_of_a_tile():
    module, x = FactorizedReduce(3, 4).eval(), torch.randn(1, 3, 4, 4).abs().requires_grad_()
    first, second = module.conv_1.weight.flatten(1), module.conv_2.weight.flatten(1)
    y = module(x)[0] * (1 + module.norm.eps) ** 0.5
    torch.testing.assert_close(y[:2, 1, 1], first @ x[0, :, 2, 2])
    torch.testing.assert_close(y[2:, 1, 1], second @ x[0, :, 3, 3])


def test_drop_path_zeroes_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    y = drop_path(torch.ones(4000, 2, 1, 1), 0.25)
    assert sorted(set(y[:, 0, 0, 0].tolist())) == pytest.approx([0, 4 / 3])
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean() == pytest.approx(1, abs=0.03)


def test_unknown_operations_are_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of none, .*, got 'conv_7x7'"):
        operation("conv_7x7", 4)
