"""Networks drawn from their choices."""

import numpy as np

from nasray.report.network_drawing import cell_edges, draw_choices
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.mobile_networks import mobile_space

EDGES = {
    (0, 1): "nor_conv_3x3",
    (0, 2): "none",
    (1, 2): "nor_conv_1x1",
    (0, 3): "skip_connect",
    (1, 3): "avg_pool_3x3",
    (2, 3): "nor_conv_3x3",
}


def test_a_cell_is_read_in_both_spellings():
    by_edge = {f"edge_{source}_{target}": operation for (source, target), operation in EDGES.items()}
    assert cell_edges(by_edge) == EDGES
    terms = sorted(EDGES.items(), key=lambda edge: (edge[0][1], edge[0][0]))
    by_position = {f"position_{n:02d}": f"{name}~{edge[0]}" for n, (edge, name) in enumerate(terms)}
    assert cell_edges(by_position) == EDGES


def test_other_choices_are_no_cell():
    assert cell_edges({}) == {}
    assert cell_edges({"edge_0_1": "conv", "width": 3}) == {}
    assert cell_edges({"position_00": "conv~1", "position_01": "conv~1"}) == {}
    assert cell_edges({"a": "conv~0"}) == {}


def test_each_edge_of_a_cell_is_drawn_and_said():
    architecture = CellSpace().random(np.random.default_rng(0))
    html = draw_choices(architecture.choices, caption="A cell")
    assert html.count("<path") == 6
    assert html.count("<circle") == 4
    for name, operation in architecture.choices.items():
        source, target = name.split("_")[1:]
        assert f"{operation} from node {source} to {target}" in html


def test_a_chain_shows_the_layers_that_are_on_and_what_they_read():
    space = ChainSpace(num_classes=10, in_channels=3, resolution=32)
    choices = dict(space.random(np.random.default_rng(3)).choices)
    num_layers = sum(value != "off" for name, value in choices.items() if name.endswith(".kind"))
    html = draw_choices(choices, caption="A chain")
    assert html.count("<li") == num_layers + 1  # and the classifier
    genes = {"kind": "conv", "filters": 24, "kernel_height": 3, "kernel_width": 5, "stride": 2}
    conv = {f"00.{gene}": value for gene, value in (genes | {"is_padded": False, "rate": 0.4}).items()}
    html = draw_choices(conv, caption="A layer")
    assert "3\N{MULTIPLICATION SIGN}5, 24 filters, stride 2, not padded" in html
    assert "0.4" not in html  # a convolution reads no rate


def test_blocks_and_anything_else_are_listed():
    space = mobile_space("mobile-8", num_classes=10, resolution=8)
    html = draw_choices(space.smallest().choices, caption="Blocks")
    assert "<strong>b02</strong>" in html and "depthwise.kernel" in html
    html = draw_choices({"<b>": "<i>"}, caption="<u>")
    assert "&lt;b&gt; &lt;i&gt;" in html and "&lt;u&gt;" in html
    assert "<b>" not in html


def test_a_kind_that_nobody_knows_is_drawn_with_all_its_genes():
    html = draw_choices({"00.kind": "new", "00.filters": 7}, caption="Later")
    assert "<strong>new</strong>" in html and "7 filters" in html
