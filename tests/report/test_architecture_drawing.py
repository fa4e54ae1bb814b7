import re
from typing import Any

from nasray.report.architecture_drawing import draw_architecture, summarize_layers


def widths_percent(html: str) -> list[tuple[str, float]]:
    return [(kind, float(width)) for kind, width in re.findall(r'class="(\w+)" style="width:([\d.]+)%', html)]


def test_bar_shows_kept_bypassed_and_cut_channels_to_scale(layer: dict[str, Any]) -> None:
    drawn = widths_percent(draw_architecture([layer], caption="x"))
    assert drawn == [("bar", 100.0), ("kept", 37.5), ("bypassed", 12.5), ("cut", 50.0)]


def test_bar_length_grows_with_the_square_root_of_the_initial_width(layer: dict[str, Any]) -> None:
    narrow = layer | {"initial_filters": 16, "filters": 16, "bypassed_channels": 0}
    drawn = widths_percent(draw_architecture([layer, narrow], caption="x"))
    assert [width for kind, width in drawn if kind == "bar"] == [100.0, 50.0]


def test_bar_holds_bypasses_beyond_the_initial_width(layer: dict[str, Any]) -> None:
    wide = layer | {"filters": 60, "bypassed_channels": 60}
    assert widths_percent(draw_architecture([wide], caption="x"))[1:] == [("kept", 50.0), ("bypassed", 50.0)]


def test_kernel_stride_and_resolution_are_told(layer: dict[str, Any]) -> None:
    html = draw_architecture([layer], caption="x")
    for text in (
        "3\N{MULTIPLICATION SIGN}3",
        "of 5\N{MULTIPLICATION SIGN}5",
        "stride 2",
        "32 \N{MULTIPLICATION SIGN} 32",
    ):
        assert text in html


def test_a_block_removed_as_a_whole_is_one_row(layer: dict[str, Any]) -> None:
    gone = layer | {"is_removed": True, "filters": 0, "bypassed_channels": 0}
    html = draw_architecture([gone, gone | {"name": "b01.project"}, layer | {"block": "b02"}], caption="x")
    assert html.count('class="removed"') == 1
    assert "b01 (2 layers)" in html
    assert summarize_layers([gone, layer]) == "2 layers, of which 1 removed, 1 narrower, 1 with a smaller kernel"


def test_a_layer_without_filters_is_drawn_without_a_bar(layer: dict[str, Any]) -> None:
    pool = layer | {"kind": "pool", "filters": None, "initial_filters": None, "bypassed_channels": 0, "kernel": None}
    assert 'class="bar"' not in draw_architecture([pool], caption="x")
