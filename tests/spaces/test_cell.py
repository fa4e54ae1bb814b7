import itertools
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasray.architecture import Architecture
from nasray.spaces.cell import CellSpace
from nasray.spaces.cell_forms import (
    EDGES,
    OPERATIONS,
    cell_index,
    cell_operations,
    network_key,
    representatives,
    unique_key,
)

ARCH_STR = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
CELLS = list(itertools.product(OPERATIONS, repeat=len(EDGES)))


@pytest.fixture(scope="module")
def nasbench201():
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    path = Path(os.environ["NASRAY_DATA"]) / "nasbench201" / "nasbench201.parquet"
    if not path.is_file():
        pytest.skip(f"NASRAY_DATA has no {path.parent.name}/{path.name}")
    return pd.read_parquet(path)


def outputs(operations):
    """What a cell of numbers can compute: its output for every way to hand six functions out to its convolutions."""
    of_edge = dict(zip(EDGES, operations, strict=True))
    convolutions = [edge for edge in EDGES if of_edge[edge].startswith("nor_conv")]
    orders = itertools.permutations(range(len(EDGES)), len(convolutions))
    return frozenset(round(output(of_edge, dict(zip(convolutions, order, strict=True))), 9) for order in orders)


def output(of_edge, numbers):
    """A number for a cell: a cosine of its own for each convolution, `None` for nothing."""
    nodes = [0.7]
    for node in (1, 2, 3):
        terms = []
        for source, value in enumerate(nodes):
            operation = of_edge[source, node]
            if operation == "none" or value is None:
                continue
            if operation == "skip_connect":
                terms.append(value)
            elif operation == "avg_pool_3x3":
                terms.append(math.atan(value + 5))
            else:
                phase = numbers[source, node] + (10 if operation == "nor_conv_3x3" else 0)
                terms.append(math.cos((1 + phase / 7) * value + phase))
        nodes.append(sum(terms) if terms else None)
    return nodes[3] or 0.0


def test_choices_are_edges_from_cheap_to_dear():
    space = CellSpace(merge_isomorphic=False)
    assert list(space.choices) == ["edge_0_1", "edge_0_2", "edge_0_3", "edge_1_2", "edge_1_3", "edge_2_3"]
    for name, options in space.choices.items():
        full = dict(space.largest().choices)
        macs = [space.plan(space.canonical(full | {name: option})).macs for option in options]
        assert macs == sorted(macs)


def test_arch_str_is_read_edge_by_edge():
    space = CellSpace(merge_isomorphic=False)
    architecture = space.from_arch_str(ARCH_STR)
    assert dict(architecture.choices) == {
        "edge_0_1": "nor_conv_3x3",
        "edge_0_2": "none",
        "edge_1_2": "skip_connect",
        "edge_0_3": "nor_conv_1x1",
        "edge_1_3": "none",
        "edge_2_3": "avg_pool_3x3",
    }
    assert space.to_arch_str(architecture) == ARCH_STR


@pytest.mark.parametrize(
    "arch_str",
    ["", "none", ARCH_STR[1:], ARCH_STR + "+|none~0|", ARCH_STR.replace("~2", "~1"), ARCH_STR.replace("|+|", "|")],
)
def test_malformed_arch_str_is_refused(arch_str):
    with pytest.raises(ValueError, match=r"`arch_str` must look like '\|OPERATION~0\|\+\|OPERATION~0\|OPERATION~1\|\+"):
        CellSpace().from_arch_str(arch_str)


def test_foreign_operations_and_architectures_are_refused():
    space = CellSpace()
    with pytest.raises(ValueError, match=r"must be one of none, skip_connect, .*, got 'sep_conv_3x3'"):
        space.from_arch_str(ARCH_STR.replace("nor_conv_3x3", "sep_conv_3x3"))
    with pytest.raises(ValueError, match="`edge_0_1` must be one of"):
        space.canonical(dict(space.largest().choices) | {"edge_0_1": "sep_conv_3x3"})
    other = Architecture.of("other", space.largest().choices)
    for method in (space.check, space.plan, space.to_arch_str, space.unique_key, space.network_key):
        with pytest.raises(ValueError, match="must belong to space 'cell', got 'other'"):
            method(other)
    with pytest.raises(ValueError, match="`num_cells` must be at least 1, got 0"):
        CellSpace(num_cells=0)


def test_index_and_operations_are_inverse():
    assert [cell_index(cell) for cell in CELLS] == list(range(len(CELLS)))
    assert all(cell_operations(index) == cell for index, cell in enumerate(CELLS))


def test_representatives_are_the_same_network_at_the_lowest_cost():
    plain = CellSpace(merge_isomorphic=False, num_cells=1)
    macs = [plain.plan(plain.canonical(dict(zip(plain.choices, cell, strict=True)))).macs for cell in CELLS]
    keys = [network_key(cell) for cell in CELLS]
    cheapest = defaultdict(lambda: math.inf)
    for key, cost in zip(keys, macs, strict=True):
        cheapest[key] = min(cheapest[key], cost)
    assert len(cheapest) == len(set(representatives().tolist())) == 5260
    for index, representative in enumerate(representatives().tolist()):
        assert keys[index] == keys[representative]
        assert macs[representative] == cheapest[keys[index]]
        assert representatives()[representative] == representative


def test_network_key_agrees_with_what_cells_compute():
    """Cells of up to three convolutions: one key for one set of functions, and the other way round."""
    cells = [cell for cell in CELLS if sum(operation.startswith("nor_conv") for operation in cell) <= 3]
    drawn = [cells[place] for place in np.random.default_rng(0).choice(len(cells), 3000, replace=False)]
    pairs = {(network_key(cell), outputs(cell)) for cell in drawn}
    assert len(pairs) == len({key for key, _ in pairs}) == len({functions for _, functions in pairs}) < len(drawn)


def test_unique_key_has_the_published_number_of_classes():
    assert len({unique_key(cell) for cell in CELLS}) == 6466


@pytest.mark.parametrize("merge", [True, False])
def test_every_way_to_draw_is_canonical(merge):
    space, generator = CellSpace(merge_isomorphic=merge), np.random.default_rng(0)
    drawn = [space.smallest(), space.largest(), *space.balanced(20, generator)]
    for architecture in [*drawn, *(space.random(generator) for _ in range(50))]:
        assert space.check(architecture) == architecture
        assert space.from_arch_str(space.to_arch_str(architecture)) == architecture


def test_largest_and_smallest_cost_what_was_published():
    """7.78 to 220.12 million multiply-adds, classifier biases included, and 0.073 to 1.532 million parameters."""
    space = CellSpace()
    small, large = space.plan(space.smallest()), space.plan(space.largest())
    assert (small.macs + 10, large.macs + 10) == (7_783_050, 220_119_690)
    assert (small.parameters, large.parameters) == (73_306, 1_531_546)


@pytest.mark.data
def test_unique_key_equals_the_table(nasbench201):
    space = CellSpace(merge_isomorphic=False)
    architectures = [space.from_arch_str(arch_str) for arch_str in nasbench201["arch_str"]]
    assert [space.to_arch_str(each) for each in architectures] == nasbench201["arch_str"].tolist()
    assert [space.unique_key(each) for each in architectures] == nasbench201["unique_str"].tolist()


@pytest.mark.data
@pytest.mark.parametrize(
    ("data", "settings"),
    {"c10": {}, "c100": {"num_classes": 100}, "in16": {"num_classes": 120, "resolution": 16}}.items(),
)
def test_costs_equal_the_table(nasbench201, data, settings):
    space = CellSpace(merge_isomorphic=False, **settings)
    for _, row in nasbench201.sample(500, random_state=0).iterrows():
        plan = space.plan(space.from_arch_str(row["arch_str"]))
        assert plan.parameters == round(row[f"{data}_params_M"] * 1e6)
        assert plan.macs + space.num_classes == round(row[f"{data}_flops_M"] * 1e6)


@pytest.mark.data
def test_merged_cells_cost_no_more_than_any_spelling(nasbench201):
    space = CellSpace()
    parameters = dict(zip(nasbench201["arch_str"], nasbench201["c10_params_M"], strict=True))
    for arch_str, cost in parameters.items():
        assert parameters[space.to_arch_str(space.from_arch_str(arch_str))] <= cost
