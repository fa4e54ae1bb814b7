"""Tables of the command line: no word is broken where the terminal leaves another way."""

import pytest

from nasray.commands.output import print_table, shown
from nasray.commands.runs import marked

FRONT = [
    {
        "arch_id": f"9f3a5b7c9d1e3f5{number}",
        "accuracy": 0.9,
        "parameters": 12345.0,
        "inference_time_s": 0.00012345,
        "latency_ms": 3.2,
        "front": ["parameters", "latency_ms"],
    }
    for number in range(8)
]
RUNS = [
    {"run": f"{method}-20261121-1304", "method": method, "evaluations": 20}
    | {f"{what} {cost}": "3 of 8" for cost in ("parameters", "inference_time_s") for what in ("front of", "volume of")}
    for method in ("evolution", "random")
]


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_break_no_word(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(marked(FRONT))
    front = capsys.readouterr().out
    print_table(RUNS)
    runs = capsys.readouterr().out
    assert max(map(len, (front + runs).splitlines())) <= columns
    for word in ("9f3a5b7c9d1e3f57", "accuracy", "12.35 K *", "0.0001234 s ", "3.200 ms *"):
        assert word in front
    for word in ("evolution-20261121-1304", "random-20261121-1304", "3 of 8", "front of inference_time_s", " 20 "):
        assert word in runs


def test_a_few_wide_rows_stand_side_by_side(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(RUNS)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "method" in line]
    assert line.split() == ["│", "method", "│", "evolution", "│", "random", "│"]


def test_an_empty_table_is_printed():
    print_table([], title="0 networks")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("evaluations", 20, "20"),
        ("parameters", 12345, "12.35 K"),
        ("is_fine", True, "True"),
        ("x", None, "\N{EN DASH}"),
    ],
)
def test_counts_are_shown_as_counts(name, value, text):
    assert shown(name, value) == text
