import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from nasray.report import result_table
from nasray.report.quantities import format_count, format_duration, format_metric, format_time


def printed(results: list[dict[str, Any]]) -> str:
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(result_table(results))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_result_table_tells_each_network_within_100_columns(make_result: Callable[..., dict[str, Any]]) -> None:
    found = make_result("macs <= 50% of a very long name [bold]indeed[/bold]", device="cuda:0", latency_ms=None)
    text = printed([make_result("initial"), found])
    assert max(map(len, text.splitlines())) <= 100
    assert "latency on cpu" in text
    assert "[bold]" in text.replace("\n", "")
    for figure in ("90.00", "95.00", "2.00", "4.0", "4.000", "Params (K)"):
        assert figure in text


def test_result_table_of_nothing_says_so() -> None:
    assert "No result was recorded." in printed([])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test_accuracy", 0.9312, "93.12 %"),
        ("macs", 225_138_000, "225.1 M"),
        ("parameters", 999, "999"),
        ("memory_bytes", 1200, "1.200 KB"),
        ("latency_ms", 3.4, "3.400 ms"),
        ("latency_ms", 123456.7, "123457 ms"),
        ("latency_ms", None, "\N{EN DASH}"),
        ("unknown", 2.0, "2.000"),
    ],
)
def test_format_metric(name: str, value: float | None, text: str) -> None:
    assert format_metric(name, value).strip() == text


def test_format_of_counts_durations_and_times() -> None:
    assert format_count(1.5e9) == "1.500 G"
    assert [format_duration(seconds) for seconds in (4.21, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]
    assert format_time("2026-11-20T21:44:09+00:00") == "2026-11-20 21:44 UTC"
    assert format_time(None) == "\N{EN DASH}"
