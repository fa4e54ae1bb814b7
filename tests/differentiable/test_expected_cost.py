import contextlib
import math

import numpy as np
import pytest
import torch

from nasray.carbon.carbon_terms import OperationLimit
from nasray.differentiable.derivation import derive
from nasray.differentiable.expected_cost import CostTerm, cost_table, macs_table
from nasray.differentiable.measured_cost import energy_table, latency_table
from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.spaces.genotype import OPERATIONS, Genotype
from nasray.spaces.multi_scale import MultiScaleSettings, MultiScaleSpace

_EDGES = [("sep_conv_3x3", 0), ("dil_conv_5x5", 1), ("skip_connect", 0), ("sep_conv_5x5", 2)]
DARTS_LIKE = Genotype.of(_EDGES, _EDGES)


@pytest.mark.parametrize("scales", [1, 3])
def test_expected_macs_of_certain_mixtures_are_those_of_the_derived_network(scales):
    settings = MultiScaleSettings(num_nodes=2, scales=scales, layers=5, exits=2, channels=6, resolution=18)
    space, network = MultiScaleSpace(settings), RelaxedNetwork(settings)
    table = macs_table(settings)
    for seed in range(4):
        architecture = space.random(np.random.default_rng(seed))
        network.set_genotype(space.genotype(architecture))
        macs = space.plan(architecture).cumulative_macs(2)
        assert table.expected(network).item() == pytest.approx(macs, rel=1e-6)
        assert table.derived(network) == pytest.approx(macs, rel=1e-6)


def test_learning_none_makes_nothing_cheaper(settings):
    network, table = RelaxedNetwork(settings), macs_table(settings)
    network.set_genotype(DARTS_LIKE)
    with torch.no_grad():
        for alpha in network.alphas:
            alpha.clamp_(max=6.0)
            alpha[:, OPERATIONS.index("none")] = 0.0
    before, derived = table.expected(network).item(), table.derived(network)
    with torch.no_grad():
        for alpha in network.alphas:
            alpha[:, OPERATIONS.index("none")] = 3.0
    assert table.expected(network).item() == pytest.approx(before, rel=1e-5)
    plan = MultiScaleSpace(settings).plan(MultiScaleSpace(settings).architecture(derive(network)))
    assert table.derived(network) == derived == pytest.approx(plan.cumulative_macs(settings.exits), rel=1e-6)


def test_expected_cost_has_the_gradients_of_finite_differences(settings):
    torch.manual_seed(0)
    network, table = RelaxedNetwork(settings).double(), macs_table(settings)
    alpha = network.alphas[1]
    with torch.no_grad():
        alpha.mul_(300.0)  # so that a small step keeps the same edges
    (gradient,) = torch.autograd.grad(table.expected(network), alpha)
    for edge, column in ((0, 4), (4, 7), (2, 0)):
        values = []
        for shift in (1e-4, -1e-4):
            with torch.no_grad():
                alpha[edge, column] += shift
                values.append(table.expected(network).item())
                alpha[edge, column] -= shift
        assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(gradient[edge, column]), rel=1e-5, abs=1e-3)


def test_a_target_charges_only_what_is_above_it(settings):
    network, table = RelaxedNetwork(settings), macs_table(settings)
    now = table.derived(network)
    high = CostTerm(table=table, weight=2.0, target=1.1 * now)
    assert high.loss(network, initial=now).item() == 0
    assert not torch.autograd.grad(high.loss(network, initial=now), network.alphas)[0].any()
    low = CostTerm(table=table, weight=2.0, target=table.fixed + (now - table.fixed) / 2)
    assert low.loss(network, initial=now).item() == pytest.approx(2.0, rel=1e-5)
    assert torch.autograd.grad(low.loss(network, initial=now), network.alphas)[0].any()
    free, expected = CostTerm(table=table, weight=2.0), table.expected(network).item()
    assert free.loss(network, initial=expected).item() == pytest.approx(2.0, rel=1e-5)


def test_a_limit_on_carbon_leaves_dear_operations_out(settings):
    network, macs = RelaxedNetwork(settings), macs_table(settings)
    carbon = macs.scaled("carbon_g", 1e-9)
    dearest = float(carbon.normal.max())
    CostTerm(table=carbon, weight=0.0, limit=OperationLimit(carbon_g=0.4 * dearest)).forbid_broken(network)
    weights_EO = network.mixtures[0].probabilities()
    assert torch.equal(weights_EO == 0, carbon.normal > 0.4 * dearest)
    assert (weights_EO == 0).any() and (weights_EO > 0).any()
    assert all(edge.operation != "sep_conv_5x5" for node in derive(network).normal for edge in node)


def test_a_limit_per_mac_needs_and_uses_multiply_adds(settings):
    macs = macs_table(settings)
    term = CostTerm(
        table=macs.scaled("carbon_g", 1e-9), weight=0.0, limit=OperationLimit(carbon_g_per_mac=0.5e-9), macs=macs
    )
    network = RelaxedNetwork(settings)
    term.forbid_broken(network)
    assert torch.equal(network.mixtures[0].probabilities() == 0, macs.normal > 0)


def test_tables_ask_once_for_each_operation_size_and_stride(settings):
    asked = []

    def cost(*key):
        asked.append(key)
        return 1.0

    table = cost_table(settings, "energy_j", cost, fixed=0.5)
    assert len(asked) == len(set(asked))
    cells = [position for position in settings.positions if position.layer >= 0]
    normal = [position for position in cells if not settings.is_reduction(position.layer)]
    assert table.normal.unique().tolist() == [len(normal)]
    assert table.reduce.unique().tolist() == [len(cells) - len(normal)]


def test_measured_latencies_are_positive_but_for_what_is_free(settings):
    table = latency_table(settings, budget_s=0.0)
    free = [OPERATIONS.index("none"), OPERATIONS.index("skip_connect")]
    dear = [column for column in range(len(OPERATIONS)) if column not in free]
    assert not table.normal[:, free].any()
    assert (table.normal[:, dear] > 0).all() and (table.reduce[:2, dear] > 0).all()
    assert table.fixed > 0 and table.unit == "latency_ms"
    energy = table.scaled("energy_j", 0.02)
    torch.testing.assert_close(energy.normal, table.normal * 0.02)
    assert energy.fixed == pytest.approx(0.02 * table.fixed)


def test_energies_are_those_of_a_counter_or_say_that_they_are_estimated(settings, monkeypatch):
    table, quality = energy_table(settings)
    if "estimated" not in quality:
        pytest.skip("This machine has an energy counter.")
    assert table.unit == "energy_mj" and table.fixed > 0
    ratios = (table.normal / table.normal.max()).flatten()
    assert ((ratios >= 0) & (ratios <= 1)).all()

    @contextlib.contextmanager
    def windows(device):
        yield lambda run, seconds: (run(), 0.25)[1]

    module = "nasray.differentiable.measured_cost"
    monkeypatch.setattr(f"{module}.has_counter", lambda device: True)
    monkeypatch.setattr(f"{module}.energy_windows", windows)
    table, quality = energy_table(settings)
    cells = [position for position in settings.positions if position.layer >= 0]
    normal = [position for position in cells if not settings.is_reduction(position.layer)]
    assert quality == "Energies of operations were measured one by one on the counter of cpu."
    assert set(table.normal.flatten().tolist()) == {0.0, 250.0 * len(normal)}


def test_wrong_terms_are_told(settings):
    table = macs_table(settings)
    with pytest.raises(ValueError, match="`weight` must be a finite number of at least 0, got nan"):
        CostTerm(table=table, weight=math.nan)
    with pytest.raises(ValueError, match=r"`target` must be above .* macs"):
        CostTerm(table=table, weight=1.0, target=table.fixed)
    with pytest.raises(ValueError, match="`limit` must come with a table of carbon_g, got one of macs"):
        CostTerm(table=table, weight=1.0, limit=OperationLimit(carbon_g=1.0))
    with pytest.raises(ValueError, match="`factor` must be a positive number, got 0"):
        table.scaled("energy_j", 0)
