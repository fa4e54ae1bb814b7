import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nasray.differentiable.derivation import derive, derive_cell
from nasray.differentiable.relaxation import Mixture
from nasray.differentiable.relaxed_network import RelaxedNetwork, darts_supernet, inherit
from nasray.spaces.genotype import DARTS_V2, OPERATIONS, cell_edges
from nasray.spaces.multi_scale import MultiScaleSettings, MultiScaleSpace


def layout(scales, num_nodes=2, exits=2):
    return MultiScaleSettings(num_nodes=num_nodes, scales=scales, layers=4, exits=exits, channels=4, resolution=16)


def test_the_supernet_of_darts_has_the_published_size():
    with torch.device("meta"):
        supernet = darts_supernet()
    assert supernet.num_weights == 1_930_618
    assert [tuple(alpha.shape) for alpha in supernet.alphas] == [(14, 8), (14, 8)]


@pytest.mark.parametrize(("scales", "num_nodes"), [(1, 2), (2, 2), (3, 2), (1, 4)])
def test_one_hot_mixtures_compute_what_the_derived_network_does(scales, num_nodes):
    torch.manual_seed(scales)
    settings = layout(scales, num_nodes)
    space = MultiScaleSpace(settings)
    supernet, images = RelaxedNetwork(settings).double(), torch.randn(6, 3, 16, 16, dtype=torch.float64)
    supernet.all_exits(images)  # moves the statistics
    for seed in range(3):
        genotype = space.genotype(space.random(np.random.default_rng(seed)))
        supernet.set_genotype(genotype)
        derived = inherit(supernet, genotype)
        for is_training in (False, True):
            supernet.train(is_training)
            derived.train(is_training)
            torch.testing.assert_close(supernet.all_exits(images), derived.all_exits(images), atol=1e-5, rtol=0.0)


def test_a_certain_mixture_derives_its_own_genotype():
    supernet = RelaxedNetwork(layout(1, num_nodes=4))
    supernet.set_genotype(DARTS_V2)
    assert derive(supernet) == DARTS_V2


def test_derivation_ranks_edges_by_their_best_operation_but_none():
    weights_EO = torch.full((5, len(OPERATIONS)), 0.01)
    edges = cell_edges(2)
    weights_EO[:, OPERATIONS.index("none")] = 0.9
    for edge, name, weight in (
        ((0, 2), "skip_connect", 0.2),
        ((1, 2), "max_pool_3x3", 0.1),
        ((0, 3), "sep_conv_3x3", 0.3),
        ((1, 3), "sep_conv_5x5", 0.1),
        ((2, 3), "dil_conv_5x5", 0.2),
    ):
        weights_EO[edges.index(edge), OPERATIONS.index(name)] = weight
    assert derive_cell(weights_EO) == (
        (("skip_connect", 0), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 0), ("dil_conv_5x5", 2)),
    )


def test_softmax_weights_are_those_of_torch():
    mixture = Mixture(2)
    torch.testing.assert_close(mixture(), torch.softmax(mixture.alpha, dim=1))


def test_gumbel_samples_choose_operations_with_their_probabilities():
    torch.manual_seed(0)
    mixture = Mixture(2, relaxation="gumbel")
    mixture.temperature = 0.01
    with torch.no_grad():
        mixture.alpha.normal_()
    samples = torch.stack([(mixture.draw(), mixture().detach())[1] for _ in range(4000)])
    chosen_EO = F.one_hot(samples.argmax(-1), len(OPERATIONS)).double().mean(0)
    torch.testing.assert_close(samples.sum(-1), torch.ones(4000, 5))
    torch.testing.assert_close(chosen_EO.float(), mixture.probabilities().detach(), atol=0.04, rtol=0.0)
    torch.testing.assert_close(mixture.eval()(), mixture.probabilities())


def test_forbidden_operations_have_no_weight_and_are_never_derived():
    mixture = Mixture(2)
    broken_EO = torch.zeros(5, len(OPERATIONS), dtype=torch.bool)
    broken_EO[:, 4:] = True
    mixture.forbid(broken_EO)
    assert not mixture()[:, 4:].any()
    assert all(edge.operation in OPERATIONS[:4] for node in derive_cell(mixture().detach()) for edge in node)
    with pytest.raises(ValueError, match="must leave each edge an operation"):
        mixture.forbid(torch.ones(5, len(OPERATIONS), dtype=torch.bool))
    with pytest.raises(ValueError, match=r"must have the shape \(5, 8\)"):
        mixture.forbid(torch.ones(2, 8, dtype=torch.bool))


def test_refuses_an_auxiliary_head_and_temperatures_that_are_not_positive():
    with pytest.raises(ValueError, match=r"`settings\.has_auxiliary` must be False"):
        RelaxedNetwork(MultiScaleSettings(has_auxiliary=True))
    with pytest.raises(ValueError, match="`temperature` must be positive, got 0"):
        RelaxedNetwork(layout(1)).set_temperature(0)
