"""A network drawn layer by layer: what the search kept of every layer's width, kernel and resolution.

Each layer is a row with a bar. The bar's outline is the initial width; its filled part is the width that was found;
its hatched part is the channels that bypass the layer, taken from its input unchanged.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from nasray.report.markup import Html, element, join
from nasray.report.quantities import MISSING, format_count

_COLUMNS = (
    ("Layer", "text"),
    ("Kernel", "kernel"),
    ("Width", "width"),
    ("Filters", "number"),
    ("Outputs", "number wide-only"),
    ("MACs", "number wide-only"),
    ("Parameters", "number wide-only"),
)
_TIMES = "\N{MULTIPLICATION SIGN}"
_KERNEL_PIXELS = 2.4
"""Side of one kernel tap in the drawing, in CSS pixels."""


def draw_architecture(layers: Sequence[Mapping[str, Any]], *, caption: str) -> Html:
    """Draw a network from its layers.

    Args:
        layers: LayerRow mappings in the order of execution.
        caption: What the drawing shows.

    Returns:
        A table, one row per layer; a block that was removed as a whole is a single row, and a row tells of each
        change of resolution.
    """
    widest = max((_drawn_width(layer) for layer in layers), default=1)
    head = element("tr", *(element("th", name, scope="col", class_=kind) for name, kind in _COLUMNS))
    bodies = [
        element("tbody", *_block_rows(block, list(members), widest))
        for block, members in groupby(layers, key=lambda layer: layer.get("block"))
    ]
    whole = element("table", element("caption", caption), element("thead", head), *bodies, class_="architecture")
    return element("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def legend() -> Html:
    """Explain the drawing's marks, each beside a sample of it."""
    samples = (
        ("kept", "filters kept"),
        ("bypassed", "channels that bypass the layer"),
        ("cut", "filters cut"),
        ("gone", "layer removed"),
    )
    marks = [
        element("li", element("span", element("span", class_=f"{kind} whole"), class_="bar sample"), text)
        for kind, text in samples
    ]
    kernel = element("li", _kernel_picture(3, 5), "kernel found inside the initial one")
    note = (
        "A bar's length grows with the square root of the layer's initial width, so that narrow layers stay visible; "
        "the parts of a bar are to scale."
    )
    return join(element("ul", *marks, kernel, class_="legend"), element("p", note, class_="note"))


def summarize_layers(layers: Sequence[Mapping[str, Any]]) -> str:
    """Say in one sentence how many layers, widths and kernels the search changed."""
    kept = [layer for layer in layers if not layer.get("is_removed")]
    narrower = sum(_number(layer, "filters") < _number(layer, "initial_filters") for layer in kept)
    smaller = sum(_number(layer, "kernel") < _number(layer, "initial_kernel") for layer in kept)
    changes = ((len(layers) - len(kept), "removed"), (narrower, "narrower"), (smaller, "with a smaller kernel"))
    said = [f"{count} {change}" for count, change in changes if count]
    return f"{len(layers)} layers" + (f", of which {', '.join(said)}" if said else "")


def _block_rows(block: object, layers: Sequence[Mapping[str, Any]], widest: float) -> list[Html]:
    if len(layers) > 1 and all(layer.get("is_removed") for layer in layers):
        return [_removed_row(f"{block} ({len(layers)} layers)", max(layers, key=_drawn_width), widest)]
    rows = []
    for layer in layers:
        if layer.get("is_removed"):
            rows.append(_removed_row(layer.get("name"), layer, widest))
            continue
        if layer.get("in_size") != layer.get("out_size"):
            rows.append(_resolution_row(layer))
        rows.append(_layer_row(layer, widest))
    return rows


def _layer_row(layer: Mapping[str, Any], widest: float) -> Html:
    filters, initial, bypassed = (_number(layer, name) for name in ("filters", "initial_filters", "bypassed_channels"))
    parts = [("kept", filters), ("bypassed", bypassed), ("cut", initial - filters - bypassed)]
    bypass = element("small", f"+{bypassed:.0f} bypass") if bypassed else None
    counts = [layer.get("out_channels"), layer.get("macs"), layer.get("parameters")]
    return _row(
        layer.get("name"),
        _kernel(layer),
        _bar(parts, _drawn_width(layer), widest),
        join(f"{filters:.0f} of {initial:.0f}", bypass) if filters else MISSING,
        *(MISSING if count is None else format_count(count) for count in counts),
    )


def _removed_row(name: object, layer: Mapping[str, Any], widest: float) -> Html:
    width = _drawn_width(layer)
    cells = [element("s", name), None, _bar([("gone", width)], width, widest), "removed"]
    return _row(*cells, None, None, None, class_="removed")


def _resolution_row(layer: Mapping[str, Any]) -> Html:
    sizes = [f"{layer.get(name)} {_TIMES} {layer.get(name)}" for name in ("in_size", "out_size")]
    num_wide_only = sum("wide-only" in kind for _, kind in _COLUMNS)
    text = element("td", f"{sizes[0]} → {sizes[1]} pixels", colspan=len(_COLUMNS) - num_wide_only)
    return element("tr", text, element("td", colspan=num_wide_only, class_="wide-only"), class_="resolution")


def _row(name: object, *cells: object, class_: str | None = None) -> Html:
    kinds = [kind for _, kind in _COLUMNS]
    values = [element("td", cell, class_=kind) for cell, kind in zip(cells, kinds[1:], strict=True)]
    return element("tr", element("th", name, scope="row", class_=kinds[0]), *values, class_=class_)


def _bar(parts: Sequence[tuple[str, float]], width: float, widest: float) -> Html:
    """Draw a layer's width as a row of parts, each of them channels of one kind; nothing for a layer without width."""
    if not width:
        return join()
    pieces = [
        element("span", class_=kind, style=f"width:{100 * channels / width:.2f}%")
        for kind, channels in parts
        if channels > 0
    ]
    length = 100 * math.sqrt(width / widest)
    return element("span", *pieces, class_="bar", style=f"width:{length:.2f}%", aria_hidden="true")


def _kernel(layer: Mapping[str, Any]) -> Html:
    """Write the kernel with its picture, what it was, and the stride if there is one."""
    kernel, initial, stride = (int(_number(layer, name)) for name in ("kernel", "initial_kernel", "stride"))
    if not kernel:
        kind = str(layer.get("kind") or "")
        return join("" if kind in str(layer.get("name")) else kind.replace("_", " "))
    changed = element("small", f"of {initial}{_TIMES}{initial}") if kernel < initial else None
    strided = element("small", f"stride {stride}") if stride > 1 else None
    return join(_kernel_picture(kernel, max(kernel, initial)), f"{kernel}{_TIMES}{kernel} ", changed, strided)


def _kernel_picture(kernel: int, initial: int) -> Html:
    outer, inner = (f"{_KERNEL_PIXELS * taps:.1f}px" for taps in (initial, kernel))
    inside = element("span", style=f"width:{inner};height:{inner}")
    return element("span", inside, class_="taps", style=f"width:{outer};height:{outer}", aria_hidden="true")


def _drawn_width(layer: Mapping[str, Any]) -> float:
    found = _number(layer, "filters") + _number(layer, "bypassed_channels")
    return max(_number(layer, "initial_filters"), found)


def _number(layer: Mapping[str, Any], name: str) -> float:
    return float(layer.get(name) or 0)
