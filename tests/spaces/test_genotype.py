import json

import pytest

from nasray.spaces.genotype import DARTS_V1, DARTS_V2, OPERATIONS, OPERATIONS_BY_COST, Edge, Genotype, cell_edges

NODE = [["skip_connect", 0], ["none", 1]]
VALID = {"schema_version": 1, "normal": [NODE, NODE], "reduce": [NODE, NODE]}


def test_rows_of_the_architecture_weights():
    assert cell_edges(2) == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert len(cell_edges(4)) == 14


def test_operations_are_the_same_in_both_orders():
    assert sorted(OPERATIONS) == sorted(OPERATIONS_BY_COST) and len(OPERATIONS) == 8


def test_the_order_of_edges_does_not_matter():
    flat = [("skip_connect", 1), ("none", 0), ("sep_conv_3x3", 2), ("max_pool_3x3", 0)]
    genotype = Genotype.of(flat, flat)
    assert genotype.normal[0] == (Edge("none", 0), Edge("skip_connect", 1))
    assert genotype.normal[1] == (Edge("max_pool_3x3", 0), Edge("sep_conv_3x3", 2))
    assert genotype.num_nodes == 2


def test_json_round_trip(tmp_path):
    for genotype in (DARTS_V1, DARTS_V2, Genotype.from_json(VALID)):
        assert Genotype.from_json(json.loads(json.dumps(genotype.to_json()))) == genotype
        genotype.save(tmp_path / "genotype.json")
        assert Genotype.load(tmp_path / "genotype.json") == genotype
        assert genotype.cell(is_reduction=True) == genotype.reduce


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "`schema_version` must be 1, got 2"),
        ({"normal": "skip"}, "`normal` must be a list with the edges of each node, got 'skip'"),
        ({"normal": [NODE]}, "`normal` must have 2 or 4 nodes, got 1"),
        ({"normal": [NODE] * 4}, "`reduce` must have as many nodes as `normal`, got 2 and 4"),
        ({"reduce": [NODE, NODE[:1]]}, "A node of `reduce` must be a list of two edges"),
        ({"reduce": [NODE, [["skip_connect", True], ["none", 1]]]}, r"must look like \[\"sep_conv_3x3\", 0\], got"),
        ({"reduce": [NODE, [["skip_connect"], ["none", 1]]]}, r"must look like .*, got \['skip_connect'\]"),
        ({"normal": [NODE, [["conv_9x9", 0], ["none", 1]]]}, "Node 3 of `normal` must use one of none, .*'conv_9x9'"),
        ({"normal": [NODE, [["none", 1], ["none", 1]]]}, r"Node 3 of `normal` must have two different .* \[1, 1\]"),
        ({"normal": [NODE, [["none", 1], ["none", 0]]]}, r"ascending order, each from 0 to 2, got \[1, 0\]"),
        ({"normal": [NODE, [["none", 1], ["none", 3]]]}, r"each from 0 to 2, got \[1, 3\]"),
        ({"normal": [NODE, [["none", -1], ["none", 0]]]}, r"each from 0 to 2, got \[-1, 0\]"),
        ({"extra": 1}, "A genotype must be a JSON object"),
    ],
)
def test_malformed_genotypes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Genotype.from_json({**VALID, **change})


def test_other_things_than_genotypes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"A genotype must be a JSON object .* got \[\]"):
        Genotype.from_json([])
    with pytest.raises(ValueError, match="`normal` must list two edges for each node, got 3 edges"):
        Genotype.of([("none", 0)] * 3, [])
    with pytest.raises(ValueError, match=r"missing.json must hold a genotype, got"):
        Genotype.load(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken.json must hold a genotype, got"):
        Genotype.load(tmp_path / "broken.json")
