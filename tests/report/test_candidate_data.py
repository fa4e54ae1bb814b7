"""What the page's script is given: packed choices come back as they were."""

import json

import numpy as np

from nasray.objectives import Objective
from nasray.report.candidate_data import NO_CODE, candidate_data
from nasray.report.candidates import Candidates

CODES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def data_of(choices):
    rows = [
        {"arch_id": f"a{n}", "status": "ok", "metrics": {"accuracy": n / 7, "macs": n + 1}, "architecture": None}
        | ({"architecture": {"space": "s", "choices": own}} if own else {})
        for n, own in enumerate(choices)
    ]
    objectives = (Objective(name="accuracy", direction="maximize"), Objective(name="macs"))
    return json.loads(json.dumps(candidate_data(Candidates(rows=rows, objectives=objectives), [])))


def unpacked(column, count):
    """The values of a column, as the page's script reads them."""
    if "list" in column:
        return column["list"]
    codes = column.get("codes")
    if codes is None:
        codes, at, rare = [column["usual"]] * count, -1, column["rare"]
        for place in range(0, len(rare), 3):
            at += CODES.index(rare[place]) * len(CODES) + CODES.index(rare[place + 1])
            codes[at] = rare[place + 2]
    return [None if code == NO_CODE else column["values"][CODES.index(code)] for code in codes]


def test_choices_come_back():
    generator = np.random.default_rng(0)
    often = generator.integers(0, 5, size=9000).tolist()
    seldom = ["off"] * 9000
    for at in (0, 1, 70, 4900, 8999):  # 4,830 in a row are more than two letters can say
        seldom[at] = "conv"
    choices = [{"often": o, "seldom": s, "id": f"n{n}"} for n, (o, s) in enumerate(zip(often, seldom, strict=True))]
    choices[17] = {}
    data = data_of(choices)
    columns = {column["name"]: column for column in data["choices"]}
    assert "codes" in columns["often"] and "rare" in columns["seldom"] and "list" in columns["id"]
    for name, column in columns.items():
        assert unpacked(column, 9000) == [own.get(name) for own in choices]
    assert data["unlisted"] == 0


def test_equal_values_of_different_kinds_stay_apart():
    (column,) = data_of([{"a": True}, {"a": 1}, {"a": 1.5}])["choices"]
    assert [repr(value) for value in unpacked(column, 3)] == ["True", "1", "1.5"]


def test_choices_without_room_are_counted():
    choices = [{f"c{n:02d}": f"{row}-{n}" + "x" * 20 for n in range(20)} for row in range(9000)]
    data = data_of(choices)
    assert len(data["choices"]) + data["unlisted"] == 20
    assert data["unlisted"] > 0
    assert len(json.dumps(data["choices"])) < 2_500_000


def test_values_keep_nine_digits_and_unknown_is_null():
    data = data_of([{}, {}, {}])
    assert data["values"]["accuracy"] == [0, 0.142857143, 0.285714286]
    assert data["values"]["macs"] == [1, 2, 3]
    assert [(m["name"], m["more"], m["ideal"]) for m in data["metrics"]] == [
        ("accuracy", True, None),
        ("macs", False, 0.0),
    ]
