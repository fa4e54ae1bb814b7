import re
from xml.etree import ElementTree

import numpy as np
import pytest

from nasray.report.genotype_drawing import draw_cell, draw_genotype, draw_layout
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings, MultiScaleSpace

SVG = "{http://www.w3.org/2000/svg}"


def texts(tree):
    return [element.text for element in tree.iter(f"{SVG}text")]


def boxes(tree):
    """Outlines as (left, top, right, bottom); the chips of operations have no outline."""
    for element in tree.iter(f"{SVG}rect"):
        if "stroke" in element.get("style"):
            left, top, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
            yield left, top, left + width, top + height


def runs(way):
    """Straight runs of a line as ((x, y), (x, y)), its corners taken as points."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MHVLQ])([^MHVLQ]*)", way):
        values = [float(number) for number in numbers.split()]
        start = (x, y)
        if command == "H":
            x = values[0]
        elif command == "V":
            y = values[0]
        else:
            x, y = values[-2:]
        if command in "HV":
            yield start, (x, y)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("nodes", [2, 4])
def test_no_line_crosses_a_box(seed, nodes):
    space = MultiScaleSpace(MultiScaleSettings(num_nodes=nodes))
    genotype = space.genotype(space.random(np.random.default_rng(seed)))
    tree = ElementTree.fromstring(draw_cell(genotype.to_json()["normal"]))
    lines = [run for path in tree.iter(f"{SVG}path") for run in runs(path.get("d"))]
    assert len(lines) >= 3 * nodes
    for left, top, right, bottom in boxes(tree):
        for (x1, y1), (x2, y2) in lines:
            across = max(x1, x2) > left + 1 and min(x1, x2) < right - 1
            down = max(y1, y2) > top + 1 and min(y1, y2) < bottom - 1
            assert not (across and down)


def test_a_cell_shows_every_operation_and_a_line_for_each():
    cell = DARTS_V2.to_json()["normal"]
    tree = ElementTree.fromstring(draw_cell(cell))
    shown = texts(tree)
    assert shown.count("sep conv 3\N{MULTIPLICATION SIGN}3") == 5
    assert shown.count("dil conv 3\N{MULTIPLICATION SIGN}3") == 1
    assert shown.count("skip") == 2
    assert [text for text in shown if text in ("2", "3", "4", "5")] == ["2", "3", "4", "5"]
    assert len(list(tree.iter(f"{SVG}circle"))) == 8
    assert len(list(tree.iter(f"{SVG}path"))) == 8 + 4


def test_both_cells_are_drawn_under_one_caption():
    html = draw_genotype(DARTS_V2.to_json(), caption="found <here>")
    assert html.count("<svg") == 2
    assert "Normal cell" in html and "Reduction cell" in html
    assert "<figcaption>found &lt;here&gt;</figcaption>" in html


def test_the_layout_shows_cells_sizes_exits_and_connections():
    settings = MultiScaleSettings(scales=3, layers=7, exits=6)
    html = draw_layout(settings.to_drawing(), caption="layout")
    tree = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    assert len(list(boxes(tree))) == len(settings.positions)
    shown = texts(tree)
    assert [text for text in shown if text.startswith("exit")] == [f"exit {exit}" for exit in range(1, 7)]
    assert shown.count("32") == 3  # stem and two layers of the finest scale
    assert "stem" in shown and "7" in shown
    horizontal = sum(position.layer >= 0 for position in settings.positions)
    diagonal = sum(position.layer >= 0 and position.scale > 0 for position in settings.positions)
    vertical = 2
    assert len(list(tree.iter(f"{SVG}path"))) == horizontal + diagonal + vertical + settings.exits
