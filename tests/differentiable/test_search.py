import pickle
from dataclasses import replace

import pytest
import torch

from nasray.differentiable.bilevel import second_order_gradients
from nasray.differentiable.collapse import SKIPS, CollapseMonitor, CollapseWarning, count
from nasray.differentiable.config import SearchConfig
from nasray.differentiable.expected_cost import CostTerm, macs_table
from nasray.differentiable.memory import check_memory, saved_bytes, search_memory_bytes
from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.differentiable.search import DifferentiableSearch
from nasray.differentiable.search_job import SearchJob
from nasray.spaces.genotype import DARTS_V1, DARTS_V2, Genotype
from nasray.training.jobs import Place

QUICK = SearchConfig(epochs=4, batch_size=6, alpha_learning_rate=0.05, monitor=None)


def losses(search, epochs):
    return [search.run_epoch() for _ in range(epochs)]


@pytest.mark.parametrize(
    "config", [QUICK, replace(QUICK, order=2), replace(QUICK, relaxation="gumbel")], ids=["first", "second", "gumbel"]
)
def test_a_resumed_search_is_that_without_a_break(data, settings, config):
    job = SearchJob(settings=settings, config=config, cost=CostTerm(table=macs_table(settings), weight=0.1), seed=3)
    whole = job.start(data, Place())
    expected = losses(whole, 4)
    assert whole.is_finished
    broken = job.start(data, Place())
    first = losses(broken, 2)
    state = pickle.loads(pickle.dumps(broken.state_dict()))
    broken.run_epoch()  # lost with the process that is killed
    torch.manual_seed(99)
    resumed = pickle.loads(pickle.dumps(job)).start(data, Place())
    resumed.load_state_dict(state)
    assert first + losses(resumed, 2) == expected
    assert resumed.genotype() == whole.genotype()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_search_learns_and_leaves_global_randomness_alone(data, settings):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    search = DifferentiableSearch(settings, replace(QUICK, epochs=6), data)
    found = losses(search, 6)
    assert torch.equal(torch.rand(1), expected)
    assert found[-1]["loss"] < 0.7 * found[0]["loss"]
    assert found[0]["num_images"] == 12 and search.steps_per_epoch == 2
    assert 0 <= search.holdout_metrics()["accuracy"] <= 1


def test_halves_are_disjoint_and_belong_to_the_seed(data, settings):
    def rows(search):
        return [{tuple(image.flatten().tolist()) for image in half.images_NCHW} for half in search._images.halves]

    weights, alphas = rows(DifferentiableSearch(settings, QUICK, data, seed=1))
    assert len(weights) == len(alphas) == 12 and not weights & alphas
    assert [weights, alphas] == rows(DifferentiableSearch(settings, QUICK, data, seed=1))
    assert [weights, alphas] != rows(DifferentiableSearch(settings, QUICK, data, seed=2))


def test_the_architecture_stays_as_it_is_in_frozen_epochs(data, settings):
    table = macs_table(settings)
    config = replace(QUICK, frozen_epochs=2)
    search = DifferentiableSearch(settings, config, data, cost=CostTerm(table=table, weight=1.0))
    before = [alpha.detach().clone() for alpha in search.network.alphas]
    found = losses(search, 2)
    assert all(map(torch.equal, before, search.network.alphas))
    assert found[1]["loss"] < found[0]["loss"] and "valid_loss" not in found[1]
    assert "valid_loss" in search.run_epoch()
    assert not any(map(torch.equal, before, search.network.alphas))


def test_the_second_order_takes_no_difference_of_noise(data, settings):
    """With samples of the Gumbel-softmax, both sides of the finite difference must see the same one."""

    def gradients(temperature):
        search = DifferentiableSearch(settings, replace(QUICK, relaxation="gumbel", order=2), data)
        search.network.set_temperature(temperature)
        search.network.train()
        (train, valid) = next(search._images.pairs(0))
        found = []
        for seed in (0, 1):
            for mixture in search.network.mixtures:
                torch.manual_seed(7)
                mixture.draw()
            torch.manual_seed(seed)  # what passes would draw from, if they did
            both, _ = second_order_gradients(
                lambda: search._loss(*train),
                lambda: search._loss(*valid),
                search._alphas,
                search._weights,
                search._weight_optimizer,
            )
            found.append(torch.cat([gradient.flatten() for gradient in both]))
        return found

    first, second = gradients(0.5)
    torch.testing.assert_close(first, second)
    assert first.norm() > 0


def test_targets_are_met_by_the_derived_network(data, settings):
    table = macs_table(settings)
    free = DifferentiableSearch(settings, QUICK, data)
    losses(free, 4)
    target = (table.fixed + table.derived(free.network)) / 2
    config = replace(QUICK, epochs=12)
    search = DifferentiableSearch(settings, config, data, cost=CostTerm(table=table, weight=20.0, target=target))
    found = losses(search, 12)
    assert found[-1]["derived_macs"] == table.derived(search.network) <= target < table.derived(free.network)
    # Not by far: operations are taken out until the target is met, and no further.
    assert found[-1]["derived_macs"] > table.fixed


def test_a_cost_makes_the_mixture_cheaper(data, settings):
    table = macs_table(settings)
    search = DifferentiableSearch(settings, QUICK, data, cost=CostTerm(table=table, weight=20.0))
    before = search.expected_cost()
    found = losses(search, 4)
    assert found[-1]["expected_macs"] == search.expected_cost() < 0.9 * before
    assert DifferentiableSearch(settings, QUICK, data).expected_cost() is None


def test_collapse_is_warned_of_and_can_stop_the_search(data, settings):
    config = replace(QUICK, monitor=CollapseMonitor(max_share=0.0), stops_at_collapse=True, alpha_learning_rate=1e-9)
    search = DifferentiableSearch(settings, config, data)
    search.network.set_genotype(_no_skips())
    search.run_epoch()
    search.network.set_genotype(_all_skips())
    with pytest.warns(CollapseWarning, match="4 of 4 edges of the normal cell would be skip connections"):
        search.run_epoch()
    assert search.is_finished and search.epoch == 2
    assert search.genotype() == _no_skips()  # that of the epoch before
    again = DifferentiableSearch(settings, config, data)
    again.load_state_dict(search.state_dict())
    assert again.is_finished and again.genotype() == _no_skips()


def test_published_cells_have_not_collapsed():
    assert [count(genotype.normal, SKIPS) for genotype in (DARTS_V1, DARTS_V2)] == [3, 2]
    assert not CollapseMonitor().has_collapsed(DARTS_V2)


def test_estimated_memory_is_what_a_forward_pass_keeps(settings):
    network = RelaxedNetwork(settings)
    images = torch.randn(5, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    weights = 4 * network.num_weights
    kept = saved_bytes(network, images)
    assert search_memory_bytes(settings, batch_size=5) == pytest.approx(1.2 * (kept + 3 * weights), rel=0.02)
    assert search_memory_bytes(settings, batch_size=5, order=2) == pytest.approx(1.4 * (kept + 6 * weights), rel=0.02)


def test_searches_that_do_not_fit_together_are_refused(settings, monkeypatch):
    needed = search_memory_bytes(settings, batch_size=8)
    monkeypatch.setattr("nasray.differentiable.memory.free_memory_bytes", lambda device: 2.5 * needed)
    cpu = torch.device("cpu")
    assert check_memory(settings, batch_size=8, order=1, device=cpu, num_searches=2) == needed
    with pytest.raises(MemoryError, match="must let steps of 3 searches fit"):
        check_memory(settings, batch_size=8, order=1, device=cpu, num_searches=3)


def test_a_search_that_does_not_fit_is_refused(settings):
    with pytest.raises(MemoryError, match=r"`batch_size` must let a search step fit into .* got 100000000"):
        check_memory(settings, batch_size=100_000_000, order=1, device=torch.device("cpu"))


def test_wrong_settings_are_told(data, settings):
    with pytest.raises(ValueError, match=r"`data` must have the layout's .* \(3, 1, 16\), got \(3, 1, 8\)"):
        DifferentiableSearch(replace(settings, resolution=16), QUICK, data)
    with pytest.raises(ValueError, match=r"`place\.world_size` must be 1"):
        SearchJob(settings=settings, config=QUICK).start(data, Place(world_size=2))
    search = DifferentiableSearch(settings, QUICK, data)
    with pytest.raises(ValueError, match="must be of a search with seed 1, got one with 0"):
        DifferentiableSearch(settings, QUICK, data, seed=1).load_state_dict(search.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"order": 3}, "`order` must be 1 or 2, got 3"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"final_learning_rate": 1.0}, "`final_learning_rate` must be from 0"),
        ({"momentum": 1.0}, r"must be in \[0, 1\)"),
        ({"gradient_clip": -1.0}, "must not be negative"),
        ({"epochs": 3, "frozen_epochs": 3}, "`frozen_epochs` must be from 0 to 2, below `epochs`, got 3"),
        ({"weights_share": 1.0}, r"`weights_share` must be in \(0, 1\), got 1.0"),
        ({"relaxation": "hard"}, "`relaxation` must be one of softmax, gumbel, got 'hard'"),
        ({"temperatures": (1.0, 0.0)}, "`temperatures` must be positive"),
        ({"monitor": None, "stops_at_collapse": True}, "`monitor` must be given"),
    ],
)
def test_wrong_recipes_are_told(change, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**change)


def test_rates_and_temperatures_go_from_first_to_last():
    config = SearchConfig(epochs=11, temperatures=(5.0, 0.05))
    assert config.rate(0) == 0.025 and config.rate(11) == pytest.approx(0.001)
    assert config.temperature(0) == 5.0 and config.temperature(10) == pytest.approx(0.05)
    assert config.temperature(5) == pytest.approx(0.5)


def _no_skips():
    poolings = [("max_pool_3x3", 0), ("avg_pool_3x3", 1)] * 2
    return Genotype.of(poolings, poolings)


def _all_skips():
    skips = [("skip_connect", 0), ("skip_connect", 1)] * 2
    return Genotype.of(skips, skips)
