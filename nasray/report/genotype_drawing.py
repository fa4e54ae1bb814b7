"""Genotypes drawn as graphs: the two cells with their operations, and where cells and exits stand in the network.

In a cell every node has a lane of its own, and lines run up and down only between the columns, so that no line
crosses a box. The drawings are SVG; in a page they take its colours, and alone they bring their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasray.report.markup import Html, element, join

Edges = Sequence[Sequence[Any]]
"""The two incoming edges of a node, each an operation and a source."""

_TIMES = "\N{MULTIPLICATION SIGN}"
_LABELS = {
    "none": "none",
    "skip_connect": "skip",
    "max_pool_3x3": f"max pool 3{_TIMES}3",
    "avg_pool_3x3": f"avg pool 3{_TIMES}3",
    "sep_conv_3x3": f"sep conv 3{_TIMES}3",
    "sep_conv_5x5": f"sep conv 5{_TIMES}5",
    "dil_conv_3x3": f"dil conv 3{_TIMES}3",
    "dil_conv_5x5": f"dil conv 5{_TIMES}5",
}
_COLORS = {"none": 2, "skip": 3, "max": 5, "avg": 5, "sep": 0, "dil": 4}
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_INPUT_NAMES = ("two layers back", "layer before")

_BOX_WIDTH, _BOX_HEIGHT, _LANE = 138, 52, 68
_GUTTER, _TRACK = 64, 9
"""Space between two columns, and between two lines in it, in pixels."""
_CELL_STEP, _ROW_STEP = 52, 62
_INK, _MUTED, _LINE, _PANEL, _PAPER, _ACCENT = (
    f"var(--{name}, {color})"
    for name, color in (
        ("ink", "#1b2129"),
        ("muted", "#57626e"),
        ("line", "#d8dde3"),
        ("panel", "#f4f6f8"),
        ("paper", "#ffffff"),
        ("accent", "#0b5fa5"),
    )
)


def draw_genotype(genotype: Mapping[str, Any], *, caption: str) -> Html:
    """Draw the normal and the reduction cell, one above the other.

    Args:
        genotype: With "normal" and "reduce": for each node, its two edges as [operation, source].
        caption: What the drawing shows.
    """
    cells = (("normal", "Normal cell"), ("reduce", "Reduction cell: operations on its inputs have stride 2"))
    return _figure(caption, *(part for name, title in cells for part in (_title(title), draw_cell(genotype[name]))))


def draw_cell(nodes: Sequence[Edges]) -> Html:
    """Draw a cell as an SVG: its inputs, the two operations that each node adds, and the concatenated output.

    Args:
        nodes: For each intermediate node, its two edges as [operation, source]; sources 0 and 1 are the inputs.
    """
    columns = _columns(nodes)
    num_columns = max(columns)
    right = num_columns * (_BOX_WIDTH + _GUTTER) + _BOX_WIDTH
    height = len(nodes) * _LANE
    ends = {source: _box_right(columns, source) for source in range(2)}
    ends.update({node: _box_right(columns, node) for node in range(2, 2 + len(nodes))})
    lines = [
        _wire(ends[source], _heights(source, len(nodes)), _box_left(columns, node), _port(node, place), source)
        for node, edges in enumerate(nodes, start=2)
        for place, (_, source) in enumerate(edges)
    ]
    out = right + _GUTTER
    lines += [_path(f"M{ends[node]} {_middle(node)}H{out}", _MUTED, dashes="4 3") for node in range(2, 2 + len(nodes))]
    boxes = [_input_box(source, len(nodes)) for source in range(2)]
    boxes += [_node_box(node, edges, _box_left(columns, node)) for node, edges in enumerate(nodes, start=2)]
    boxes.append(_output_box(out, height))
    return _svg(out + 40, height, "Cell with its operations", *lines, *boxes)


def draw_layout(layout: Mapping[str, Any], *, caption: str) -> Html:
    """Draw where cells, reductions and exits stand: layers from left to right, scales from fine to coarse downwards.

    Args:
        layout: As of `MultiScaleSettings.to_drawing`.
        caption: What the drawing shows.
    """
    positions = layout["positions"]
    first: int = min(place["layer"] for place in positions)
    coarsest: int = layout["scales"] - 1

    def x(layer: int) -> float:
        return 40 + (layer - first) * _CELL_STEP

    def y(scale: int) -> float:
        return 44 + scale * _ROW_STEP

    bottom = y(coarsest)
    shades = [
        element("rect", x=x(layer) - 22, y=20, width=44, height=bottom, rx=4, style=f"fill:{_PANEL}")
        for layer in layout["reductions"]
    ]
    wires = [
        _arrow(x(source[0]), y(source[1]), x(place["layer"]), y(place["scale"]))
        for place in positions
        for source in place["inputs"]
        if place["layer"] - source[0] < 2
    ]
    boxes = [_position_box(x(place["layer"]), y(place["scale"]), place) for place in positions]
    exits = [
        part
        for number, layer in enumerate(layout["exit_layers"], start=1)
        for part in _exit(x(layer), bottom + 18, number)
    ]
    heads = [
        _text(x(layer), 14, layer + 1 if layer >= 0 else "stem", size=11) for layer in range(first, layout["layers"])
    ]
    picture = _svg(x(layout["layers"] - 1) + 40, bottom + 62, caption, *shades, *wires, *boxes, *exits, *heads)
    note = (
        "Squares are cells, with the side of their output in pixels; round ones make the scales. A cell also reads the "
        "same scale two layers back (not drawn). Shaded layers are reductions."
    )
    return _figure(caption, picture, element("p", note, class_="note"))


def _columns(nodes: Sequence[Edges]) -> list[int]:
    """Return the column of each node: one right of the rightmost that it reads; inputs are in column 0."""
    columns = [0, 0]
    for edges in nodes:
        columns.append(1 + max(columns[source] for _, source in edges))
    return columns


def _box_left(columns: Sequence[int], node: int) -> int:
    return columns[node] * (_BOX_WIDTH + _GUTTER)


def _box_right(columns: Sequence[int], node: int) -> int:
    return _box_left(columns, node) + _BOX_WIDTH


def _middle(node: int) -> float:
    return (node - 2) * _LANE + _LANE / 2


def _port(node: int, place: int) -> float:
    """Return the height of the row of a node's operation, where its line ends."""
    return _middle(node) + (-11 if place == 0 else 13)


def _heights(source: int, num_nodes: int) -> float:
    if source >= 2:
        return _middle(source)
    return num_nodes * _LANE * (1 + 2 * source) / 4


def _wire(start: float, from_y: float, end: float, to_y: float, source: int) -> Html:
    """Draw a line that leaves a box, changes lanes in the gutter behind it, and runs to a port."""
    turn, bend = start + 12 + source * _TRACK, 5
    down = 1 if to_y > from_y else -1
    if abs(to_y - from_y) < 2 * bend:
        way = f"M{start} {from_y}L{turn} {from_y}L{turn + bend} {to_y}H{end}"
    else:
        way = (
            f"M{start} {from_y}H{turn - bend}Q{turn} {from_y} {turn} {from_y + down * bend}"
            f"V{to_y - down * bend}Q{turn} {to_y} {turn + bend} {to_y}H{end}"
        )
    color = f"var(--series-{source % len(_PALETTE)}, {_PALETTE[source % len(_PALETTE)]})"
    return join(_path(way, color), element("circle", cx=end, cy=to_y, r=3, style=f"fill:{color}"))


def _node_box(node: int, edges: Edges, left: float) -> Html:
    top = _middle(node) - _BOX_HEIGHT / 2
    rows: list[Html] = [_rect(left, top, _BOX_WIDTH, _BOX_HEIGHT)]
    for place, (operation, _) in enumerate(edges):
        color = _COLORS[str(operation).split("_")[0]]
        height = _port(node, place)
        chip = f"fill:var(--series-{color}, {_PALETTE[color]})"
        rows.append(element("rect", x=left + 8, y=height - 5, width=8, height=10, rx=2, style=chip))
        rows.append(_text(left + 22, height + 4, _LABELS.get(str(operation), operation), anchor="start"))
    rows.append(_text(left + _BOX_WIDTH - 8, top + 16, node, anchor="end", muted=True))
    return join(*rows)


def _input_box(source: int, num_nodes: int) -> Html:
    middle = _heights(source, num_nodes)
    box = _rect(0, middle - 15, _BOX_WIDTH, 30, radius=15)
    return join(box, _text(_BOX_WIDTH / 2, middle + 4, f"{source}: {_INPUT_NAMES[source]}"))


def _output_box(left: float, height: float) -> Html:
    box = _rect(left, 4, 34, height - 8, radius=15)
    turned = f"rotate(-90 {left + 17} {height / 2})"
    label = element(
        "text", "output", x=left + 17, y=height / 2 + 4, transform=turned, text_anchor="middle", style=_font(12, _INK)
    )
    return join(box, label)


def _position_box(x: float, y: float, place: Mapping[str, Any]) -> Html:
    radius = 3 if place["layer"] >= 0 else 14
    return join(_rect(x - 14, y - 14, 28, 28, radius=radius), _text(x, y + 4, place["side"], size=11))


def _exit(x: float, y: float, number: int) -> tuple[Html, Html]:
    color = f"var(--series-1, {_PALETTE[1]})"
    arrow = _path(f"M{x} {y - 3}V{y + 15}m-4 -5l4 5l4 -5", color)
    return arrow, element("text", f"exit {number}", x=x, y=y + 29, text_anchor="middle", style=_font(11, color))


def _arrow(x1: float, y1: float, x2: float, y2: float) -> Html:
    """Draw a line between two squares, from border to border."""
    is_vertical, is_level = x1 == x2, y1 == y2
    dx = 0 if is_vertical else 15
    dy = 0 if is_level else 15
    color = _MUTED if is_level else _ACCENT
    return _path(f"M{x1 + dx} {y1 + dy}L{x2 - dx} {y2 - dy}", color)


def _path(way: str, color: str, *, dashes: str | None = None) -> Html:
    return element("path", d=way, style=f"fill:none;stroke:{color};stroke-width:1.5", stroke_dasharray=dashes)


def _rect(x: float, y: float, width: float, height: float, *, radius: float = 5) -> Html:
    style = f"fill:{_PAPER};stroke:{_MUTED};stroke-width:1.2"
    return element("rect", x=x, y=y, width=width, height=height, rx=radius, style=style)


def _text(x: float, y: float, text: object, *, size: int = 12, anchor: str = "middle", muted: bool = False) -> Html:
    return element("text", text, x=x, y=y, text_anchor=anchor, style=_font(size, _MUTED if muted else _INK))


def _font(size: int, color: str) -> str:
    return f"font:{size}px system-ui,sans-serif;fill:{color}"


def _title(text: str) -> Html:
    return element("p", element("strong", text))


def _svg(width: float, height: float, label: str, *children: Html) -> Html:
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"-2 -2 {width + 4:g} {height + 4:g}",
        width=f"{width + 4:g}",
        height=f"{height + 4:g}",
        role="img",
        aria_label=label,
    )


def _figure(caption: str, *parts: Html) -> Html:
    figure = element("figure", *parts, element("figcaption", caption))
    return element("div", figure, class_="scroll", role="region", aria_label=caption, tabindex="0")
