"""A network drawn from its choices: a chain of layers, a cell with an operation on each edge, or its blocks.

Networks that were trained layer by layer are drawn by `architecture_drawing`, genotypes by `genotype_drawing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nasray.architecture import Choice
from nasray.report.markup import Html, element
from nasray.spaces.chain_slot import USED_GENES

_TIMES = "\N{MULTIPLICATION SIGN}"
_EDGE = re.compile(r"edge_(\d+)_(\d+)")
_POSITION = re.compile(r"position_\d+")
_TERM = re.compile(r"([A-Za-z]\w*)~(\d+)")
_NODE_STEP, _LEVEL, _RADIUS = 190, 56, 15
"""Distances in the drawing of a cell, in pixels."""
_MARKS = {
    "none": ("var(--line)", "2 5"),
    "skip": ("var(--muted)", "7 4"),
    "pool": ("var(--series-1)", "2 3"),
    "conv": ("var(--series-0)", ""),
}

Edges = Mapping[tuple[int, int], str]
"""The operation between two nodes of a cell."""


def draw_choices(choices: Mapping[str, Choice], *, caption: str) -> Html:
    """Draw a network from what its architecture chose.

    Args:
        choices: Values by the choices' names. Slots of a chain ("03.kind") become boxes in their order, edges of a
            cell ("edge_0_1", or terms as "conv~0") become a graph, blocks ("b02.expand.width") boxes with their
            values; anything else is listed.
        caption: What the drawing shows.
    """
    edges = cell_edges(choices)
    drawing = _cell(edges) if edges else element("ol", *_boxes(choices), class_="chain")
    return element("figure", element("figcaption", caption), drawing, class_="network")


def cell_edges(choices: Mapping[str, Choice]) -> Edges:
    """Return the edges of a cell in which every pair of nodes has an operation; nothing if it is another network."""
    named = {name: _EDGE.fullmatch(name) for name in choices}
    if choices and all(named.values()):
        return {(int(match[1]), int(match[2])): str(choices[name]) for name, match in named.items() if match}
    terms = [_TERM.fullmatch(str(value)) for value in choices.values()]
    if not terms or not all(map(_POSITION.fullmatch, choices)) or not all(terms):
        return {}
    edges: dict[tuple[int, int], str] = {}
    target = 0
    for match in filter(None, terms):
        source = int(match[2])
        target += source == 0  # the edges of a node begin with the one from node 0
        edges[source, target] = match[1]
    return edges if all(source < target for source, target in edges) else {}


def _boxes(choices: Mapping[str, Choice]) -> Iterator[Html]:
    """Return a box for each slot, or for each block."""
    groups: dict[str, dict[str, Choice]] = {}
    for name, value in choices.items():
        head, _, rest = name.partition(".")
        groups.setdefault(head if rest else "", {})[rest or name] = value
    is_chain = bool(groups) and all("kind" in genes for genes in groups.values())
    for name, genes in groups.items():
        if is_chain and genes["kind"] == "off":
            continue
        text = _layer(genes) if is_chain else [f"{gene} {value}" for gene, value in genes.items()]
        kind = str(genes["kind"]) if is_chain else "block"
        heading = kind if is_chain else name or "choices"
        yield element("li", element("strong", heading), element("span", ", ".join(text)), class_=f"layer {_kind(kind)}")
    if is_chain:
        yield element("li", element("strong", "classifier"), class_="layer other")


def _kind(kind: str) -> str:
    return kind if kind in ("conv", "inception", "pool", "linear", "block") else "other"


def _layer(genes: Mapping[str, Choice]) -> list[str]:
    """Say what a layer of a chain does; genes that its kind does not read are left out."""
    used = set(USED_GENES.get(genes["kind"], genes))  # type: ignore[call-overload]
    said = []
    if {"kernel_height", "kernel_width"} <= used & genes.keys():
        said.append(f"{genes['kernel_height']}{_TIMES}{genes['kernel_width']}")
    for gene in ("pool", "activation", "rate"):
        if gene in used & genes.keys():
            said.append(f"rate {genes[gene]}" if gene == "rate" else str(genes[gene]))
    said += [f"{genes[gene]} {gene}" for gene in ("filters", "units") if gene in used & genes.keys()]
    if "stride" in used & genes.keys() and genes["stride"] != 1:
        said.append(f"stride {genes['stride']}")
    if "is_padded" in used & genes.keys():
        said.append("padded" if genes["is_padded"] else "not padded")
    return said


def _cell(edges: Edges) -> Html:
    """Draw nodes on a line: neighbours joined straight, others by arcs, the longer the higher."""
    last = max(target for _, target in edges)
    # Arcs rise by half of what they bend; those that hang begin at node 1 or later, so the longest is shorter.
    above, below = _LEVEL * (last - 1) + 24, _LEVEL * max(1, last - 2) + 28
    wires = [part for (source, target), name in sorted(edges.items()) for part in _edge(source, target, name)]
    nodes = [part for node in range(last + 1) for part in _node(node, last)]
    box, words = f"0 {-above} {last * _NODE_STEP + 70} {above + below}", describe_cell(edges)
    drawing = element("svg", *wires, *nodes, viewBox=box, role="img", aria_label=words, class_="cell")
    return element("div", drawing, class_="scroll", role="region", aria_label="Cell", tabindex="0")


def describe_cell(edges: Edges) -> str:
    """Say a cell's edges in words."""
    return "; ".join(
        f"{operation} from node {source} to {target}" for (source, target), operation in sorted(edges.items())
    )


def _edge(source: int, target: int, operation: str) -> Iterator[Html]:
    left, right, span = _x(source), _x(target), target - source
    kind = next((kind for kind in _MARKS if kind in operation), "conv")
    colour, dashes = _MARKS[kind]
    side = 1 if span > 1 and source % 2 else -1  # arcs that begin at odd nodes hang below
    bend = 0 if span == 1 else side * _LEVEL * (span - 1) * 2
    path = f"M{left + _RADIUS} 0Q{(left + right) / 2} {bend} {right - _RADIUS} 0"
    yield element(
        "path", d=path, fill="none", style=f"stroke:{colour}", stroke_width=2.5, stroke_dasharray=dashes or None
    )
    y = bend / 2 + (16 if side > 0 else -7)
    label = operation.replace("nor_conv", "conv").replace("_connect", "").replace("_", " ")
    yield element(
        "text", label, x=(left + right) / 2, y=y, text_anchor="middle", class_="none" if kind == "none" else None
    )


def _node(node: int, last: int) -> Iterator[Html]:
    yield element("circle", cx=_x(node), cy=0, r=_RADIUS)
    name = "in" if node == 0 else "out" if node == last else str(node)
    yield element("text", name, x=_x(node), y=4, text_anchor="middle", class_="node")


def _x(node: int) -> float:
    return 35 + node * _NODE_STEP
