import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.architecture import Architecture
from nasray.spaces.chain import ChainSpace
from nasray.spaces.chain_plan import InceptionWidths
from nasray.spaces.chain_slot import FEATURE_GENES, USED_GENES, ChainSlot

SPACE = ChainSpace(num_classes=10, in_channels=3, resolution=32)
SMALL = ChainSpace(num_classes=10, in_channels=1, resolution=8, num_feature_slots=6, num_head_slots=3)


def uniform_genes(space, generator):
    return {name: options[generator.integers(len(options))] for name, options in space.choices.items()}


def genome(space, *slots):
    """A genome with the given layers in the first slots that take them, all else off."""
    genes = dict(space.smallest().choices)
    free = {True: iter(space.feature_slots), False: iter(space.head_slots)}
    for slot in slots:
        is_feature = not (slot["kind"] == "linear" or slot.get("is_head"))
        number = next(free[is_feature])
        genes |= {f"{number}.{gene}": value for gene, value in slot.items() if gene != "is_head"}
    return genes


def conv(height=3, width=3, *, filters=16, stride=1, is_padded=True):
    sizes = {"filters": filters, "kernel_height": height, "kernel_width": width}
    return {"kind": "conv", "stride": stride, "is_padded": is_padded, **sizes}


def pool(height=2, width=2, *, stride=2, sort="max"):
    return {"kind": "pool", "kernel_height": height, "kernel_width": width, "stride": stride, "pool": sort}


def shapes(plan):
    return [layer.out_shape for layer in plan.layers]


@st.composite
def genes_of(draw, space):
    return {name: draw(st.sampled_from(options)) for name, options in space.choices.items()}


def check_any_genome(space, genes):
    given = space.plan(Architecture.of(space.name, genes))
    canonical = space.canonical(genes)
    plan = space.plan(canonical)
    assert space.canonical(canonical.choices) == canonical
    assert plan.layers == given.layers
    assert plan.repairs == ()
    assert all(min(layer.out_shape) >= 1 for layer in plan.layers)
    assert plan.layers[-1].out_shape == (space.num_classes,)
    assert (plan.infeasible_reason is None) == (plan.parameters <= space.max_parameters and plan.macs <= space.max_macs)
    for before, after in zip(plan.layers, plan.layers[1:], strict=False):
        assert after.in_shape in (before.out_shape, (math.prod(before.out_shape),))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(genes_of(SMALL))
def test_any_genome_has_a_plan_and_one_canonical_form(genes):
    check_any_genome(SMALL, genes)


@pytest.mark.parametrize("space", [SPACE, SMALL], ids=lambda space: space.name)
def test_any_uniform_genome_has_a_plan_and_one_canonical_form(space):
    generator = np.random.default_rng(0)
    for _ in range(300):
        check_any_genome(space, uniform_genes(space, generator))


@pytest.mark.parametrize("resolution", [1, 2, 3, 5, 33])
def test_any_genome_fits_any_resolution(resolution):
    space = ChainSpace(num_classes=2, in_channels=1, resolution=resolution)
    generator = np.random.default_rng(resolution)
    for _ in range(60):
        check_any_genome(space, uniform_genes(space, generator))
        check_any_genome(space, space.random(generator).choices)


def test_random_architectures_are_canonical_and_reproducible():
    drawn = [SPACE.random(generator) for generator in [np.random.default_rng(7)] for _ in range(100)]
    assert all(SPACE.check(architecture) == architecture for architecture in drawn)
    again = np.random.default_rng(7)
    assert [SPACE.random(again) for _ in range(100)] == drawn
    assert len({architecture.arch_id for architecture in drawn}) == 100


def test_random_depths_are_spread():
    generator = np.random.default_rng(0)
    depths = [
        sum(architecture[f"{number}.kind"] != "off" for number in SPACE.feature_slots)
        for architecture in (SPACE.random(generator) for _ in range(800))
    ]
    counts = np.bincount(depths, minlength=17)
    smaller_of_two = [(33 - 2 * depth) / 256 for depth in range(1, 17)]
    assert counts[1:] / 800 == pytest.approx(smaller_of_two, abs=0.05)
    assert counts[0] < 20  # a single pool that changes nothing


def test_equal_layers_mean_equal_ids():
    """Brute force on a space so small that random genomes often are the same network."""
    space = ChainSpace(num_classes=2, in_channels=1, resolution=2, num_feature_slots=2, num_head_slots=1)
    generator = np.random.default_rng(0)
    ids = {}
    for _ in range(3000):
        architecture = space.canonical(uniform_genes(space, generator))
        ids.setdefault(space.plan(architecture).layers, set()).add(architecture.arch_id)
    assert all(len(group) == 1 for group in ids.values())
    assert len(set().union(*ids.values())) == len(ids) < 2500


def test_idle_genes_and_places_of_layers_do_not_change_the_id():
    generator = np.random.default_rng(1)
    for _ in range(100):
        architecture = SPACE.random(generator)
        genes = uniform_genes(SPACE, generator) | {
            f"{n}.kind": "off" for n in (*SPACE.feature_slots, *SPACE.head_slots)
        }
        for half in (SPACE.feature_slots, SPACE.head_slots):
            active = [number for number in half if architecture[f"{number}.kind"] != "off"]
            places = sorted(generator.choice(half, len(active), replace=False))
            for number, place in zip(active, places, strict=True):
                for gene in ("kind", *USED_GENES[architecture[f"{number}.kind"]]):
                    genes[f"{place}.{gene}"] = architecture[f"{number}.{gene}"]
        assert SPACE.canonical(genes).arch_id == architecture.arch_id


def test_order_of_layers_changes_the_id():
    first = SPACE.canonical(genome(SPACE, conv(), pool()))
    second = SPACE.canonical(genome(SPACE, pool(), conv()))
    assert first.arch_id != second.arch_id


def test_counts_of_a_known_chain():
    layers = (conv(5, 3, filters=8, is_padded=False), pool(2, 2), {"kind": "linear", "units": 16})
    for batch_norm, extra in ((True, 16), (False, 8)):
        space = ChainSpace(num_classes=10, in_channels=3, resolution=32, batch_norm=batch_norm)
        plan = space.plan(space.canonical(genome(space, *layers)))
        assert shapes(plan) == [(8, 28, 30), (8, 14, 15), (16,), (10,)]
        assert [layer.macs for layer in plan.layers] == [8 * 45 * 28 * 30, 0, 1680 * 16, 160]
        assert plan.parameters == 8 * 45 + extra + 1681 * 16 + 170
        assert [layer.name for layer in plan.layers] == ["00", "01", "16", "classifier"]


def test_inception_divides_as_googlenet_does():
    assert InceptionWidths.of(256) == (64, 96, 128, 16, 32, 32)
    for filters in FEATURE_GENES["filters"]:
        widths = InceptionWidths.of(filters)
        assert widths.one + widths.three + widths.five + widths.pool == filters
    slot = {"kind": "inception", "filters": 256}
    space = ChainSpace(num_classes=10, in_channels=192, resolution=28, batch_norm=False)
    module = space.plan(space.canonical(genome(space, slot))).layers[0]
    # Szegedy et al. 2015, Table 1: 3a has 159K parameters and 128M multiply-adds.
    assert module.parameters - (64 + 96 + 128 + 16 + 32 + 32) == 163_328
    assert module.macs == pytest.approx(128e6, rel=1e-3)
    assert module.out_shape == (256, 28, 28)


@pytest.mark.parametrize(
    ("layer", "size", "kernel"),
    [
        (conv(7, 2, is_padded=False), (4, 4), (4, 2)),
        (conv(7, 7, is_padded=True), (4, 4), (7, 7)),
        (conv(7, 7, is_padded=True), (3, 2), (5, 3)),
        (conv(4, 6, is_padded=True), (1, 2), (1, 3)),
        (pool(7, 3), (4, 4), (4, 3)),
    ],
)
def test_kernels_are_clipped_to_what_fits(layer, size, kernel):
    assert ChainSlot(**layer).fitted(size).kernel == kernel


def test_repairs_are_reported_for_the_slots_given():
    genes = genome(SMALL, conv(), pool(6, 6), conv(7, 5, is_padded=False), pool(1, 1, stride=1), pool(2, 2))
    plan = SMALL.plan(Architecture.of(SMALL.name, genes))
    assert shapes(plan)[:2] == [(16, 8, 8), (16, 2, 2)]
    assert plan.repairs == ("slot 02: conv 7x5 clipped to 2x2", "slot 04: pool of a single pixel left out")
    assert len(plan.layers) == 4
    assert SMALL.plan(SMALL.canonical(genes)).repairs == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (conv(2, 1, is_padded=False), conv(2, 1, is_padded=True)),
        (conv(7, 7, is_padded=False, stride=3), conv(7, 7, is_padded=False, stride=2)),
        (pool(1, 1, sort="max"), pool(1, 1, sort="average")),
        (pool(1, 1, stride=1), {"kind": "off"}),
    ],
)
def test_settings_without_effect_do_not_change_the_id(one, other):
    first, second = (SMALL.canonical(genome(SMALL, slot)) for slot in (one, other))
    assert first.arch_id == second.arch_id


def test_networks_over_a_limit_are_infeasible_with_a_reason():
    plan = SPACE.plan(SPACE.largest())
    assert not plan.is_feasible
    assert "over `max_parameters` = 50000000" in plan.infeasible_reason
    for limit in ("max_parameters", "max_macs"):
        space = ChainSpace(num_classes=10, in_channels=1, resolution=8, **{limit: 100})
        assert f"over `{limit}` = 100" in space.plan(space.smallest()).infeasible_reason


def test_smallest_network_is_a_linear_classifier():
    plan = SPACE.plan(SPACE.smallest())
    assert (len(plan.layers), plan.parameters, plan.macs) == (1, 10 * 3073, 30720)
    assert plan.is_feasible


def test_foreign_choices_are_refused():
    genes = dict(SMALL.smallest().choices)
    with pytest.raises(ValueError, match="must be one of"):
        SMALL.canonical(genes | {"00.kind": "linear"})
    with pytest.raises(ValueError, match="must be one of"):
        SMALL.canonical(genes | {"00.filters": [8]})
    with pytest.raises(ValueError, match="must name each of its choices"):
        SMALL.canonical(genes | {"99.kind": "off"})
    with pytest.raises(ValueError, match="must name each of its choices"):
        SMALL.canonical({"00.kind": "off"})
    for refuse in (SMALL.check, SMALL.plan):
        with pytest.raises(ValueError, match="must belong to space 'chain-8'"):
            refuse(SPACE.smallest())


def test_name_tells_batch_norm_and_resolution_apart():
    names = [
        ChainSpace(num_classes=10, in_channels=3, resolution=resolution, batch_norm=batch_norm).name
        for resolution in (8, 32)
        for batch_norm in (True, False)
    ]
    assert len(set(names)) == 4


def test_values_are_spelled_as_the_options_are():
    architecture = SMALL.canonical(genome(SMALL, conv()) | {"00.stride": True, "00.filters": 16.0, "00.is_padded": 1})
    assert architecture.arch_id == SMALL.canonical(genome(SMALL, conv())).arch_id
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize(
    "setting",
    [
        {"num_classes": 1}, {"in_channels": 0}, {"resolution": 0}, {"num_feature_slots": 0}, {"num_head_slots": -1},
        {"num_feature_slots": 60, "num_head_slots": 60}, {"max_macs": 0}, {"max_parameters": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="must be at"):
        ChainSpace(**{"num_classes": 10, "in_channels": 1, "resolution": 8, **setting})
