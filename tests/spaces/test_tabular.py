import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasray.architecture import Architecture
from nasray.spaces.tabular import TabularSpace

TEXTS = ["|a~0|+|b~0|a~1|", "|b~0|+|b~0|a~1|", "|a~0|+|a~0|b~1|"]
FIGURES = {"accuracy": [0.5, 0.7, 0.6], "latency_ms": [1.0, 3.0, 2.0]}


def text_space(**changes):
    return TabularSpace(pd.DataFrame({"arch": TEXTS, **FIGURES} | changes), architecture="arch")


@pytest.fixture
def nasbench201():
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    path = Path(os.environ["NASRAY_DATA"]) / "nasbench201" / "nasbench201.parquet"
    if not path.is_file():
        pytest.skip(f"NASRAY_DATA has no {path.parent.name}/{path.name}")
    return path


def test_text_is_split_into_one_choice_per_token():
    space = text_space()
    assert space.choices == {
        "position_00": ("a~0", "b~0"),
        "position_01": ("a~0", "b~0"),
        "position_02": ("a~1", "b~1"),
    }
    assert space.codes_NP.tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert len(space) == len(space.architectures) == 3


@pytest.mark.parametrize(
    "column",
    [
        [{"depth": 2, "kernel": 3}, {"depth": 10, "kernel": 3}, {"depth": 9}],
        ['{"depth": 2, "kernel": 3}', '{"depth": 10, "kernel": 3}', '{"depth": 9}'],
    ],
)
def test_mappings_and_json_give_one_choice_per_key(column):
    space = text_space(arch=column)
    assert space.choices == {"depth": (2, 9, 10), "kernel": ("", 3)}
    assert [dict(each.choices) for each in space.architectures][2] == {"depth": 9, "kernel": ""}


@pytest.mark.parametrize(
    "column",
    [
        [[16, 8], [32, 8, 24], [8, 16]],
        [(16, 8), (32, 8, 24), (8, 16)],
        [np.array([16, 8]), np.array([32, 8, 24]), np.array([8, 16])],
        ["[16, 8]", "[32, 8, 24]", "[8, 16]"],
        ["16,8", "32 8 24", "8;16"],
    ],
)
def test_lists_give_one_choice_per_position_padded_to_the_longest(column):
    space = text_space(arch=column)
    assert space.choices == {"position_00": (8, 16, 32), "position_01": (8, 16), "position_02": ("", 24)}
    assert all(isinstance(value, int) for value in space.architectures[1].choices.values())


def test_nested_lists_are_named_by_their_path():
    space = text_space(arch=[[[1, 0], [2]], [[1, 1], [2]], [[1, 2], [2]]])
    assert space.choices == {"position_00.00": (1,), "position_00.01": (0, 1, 2), "position_01.00": (2,)}


def test_several_columns_give_one_choice_each():
    table = pd.DataFrame({"stem conv": ["3x3", "5x5", "3x3"], "width": [16, 8, 100], "ops": [[1], [2], [1]], **FIGURES})
    space = TabularSpace(table, architecture="stem conv, width,ops")
    assert space.choices == {"ops.00": (1, 2), "stem conv": ("3x3", "5x5"), "width": (8, 16, 100)}
    assert space.metric_names == ("accuracy", "latency_ms")


def test_options_are_sorted_as_people_count():
    space = text_space(arch=["conv10 2", "conv9 10", "conv9 9.5"])
    assert space.choices == {"position_00": ("conv9", "conv10"), "position_01": (2, 9.5, 10)}


def test_text_stays_text_where_numbers_would_lose_something():
    assert text_space(arch=["007", "010", "7"]).choices == {"position_00": ("007", "7", "010")}
    assert text_space(arch=["0.10", "0.1", "2"]).choices == {"position_00": ("0.1", "0.10", "2")}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_from_file_equals_the_table(tmp_path, suffix):
    path = tmp_path / f"my table{suffix}"
    table = pd.DataFrame({"arch": ["None,010", "None,011", "null,010"], **FIGURES})
    table.to_parquet(path) if suffix == ".parquet" else table.to_csv(path, index=False)
    space = TabularSpace.from_file(path, architecture="arch")
    assert space.name == "my-table"
    assert space.choices == {"position_00": ("None", "null"), "position_01": ("010", "011")}
    assert space.column("latency_ms").tolist() == [1, 3, 2]


def test_metrics_are_those_of_the_row():
    space = text_space()
    for row, architecture in enumerate(space.architectures):
        assert space.index(architecture) == row
        assert space.metrics(architecture) == {name: column[row] for name, column in FIGURES.items()}
        assert space.index(Architecture.from_json(json.loads(json.dumps(architecture.to_json())))) == row


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_canonical_is_the_first_row_at_the_smallest_hamming_distance(data):
    width = data.draw(st.integers(1, 5))
    rows = data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * width), min_size=1, max_size=30, unique=True))
    table = pd.DataFrame({"arch": [list(row) for row in rows], "metric": np.arange(len(rows))})
    space = TabularSpace(table, architecture="arch")
    wanted = {name: data.draw(st.sampled_from(options)) for name, options in space.choices.items()}
    distances = [sum(a != b for a, b in zip(row, wanted.values(), strict=True)) for row in rows]
    found = space.canonical(wanted)
    assert space.metrics(found) == {"metric": distances.index(min(distances))}
    assert space.canonical(found.choices) == found
    if tuple(wanted.values()) in rows:
        assert dict(found.choices) == wanted


def test_every_way_to_draw_stays_in_the_table():
    space, generator = text_space(), np.random.default_rng(0)
    drawn = [space.random(generator) for _ in range(300)]
    counts = np.bincount([space.index(each) for each in drawn], minlength=3)
    assert counts.min() > 70
    for architecture in [space.smallest(), space.largest(), *space.balanced(10, generator)]:
        assert space.check(architecture) == architecture
        space.index(architecture)


def test_rows_without_a_needed_figure_are_dropped_and_counted():
    table = pd.DataFrame({"arch": TEXTS, "full": [1, 2, 3], "gaps": [np.nan, 1.5, np.inf]})
    assert TabularSpace(table, architecture="arch").metric_names == ("full",)
    space = TabularSpace(table, architecture="arch", metrics=["gaps", "full"])
    assert (space.num_dropped, space.num_rows, len(space)) == (2, 3, 1)
    assert space.gaps == {"gaps": 2}
    assert space.metrics(space.architectures[0]) == {"gaps": 1.5, "full": 2}


def test_repeated_architectures_are_merged_as_asked():
    table = pd.DataFrame({"arch": [TEXTS[0], TEXTS[1], TEXTS[0]], "accuracy": [0.5, 0.7, 0.6], "same": [1, 2, 1]})
    space = TabularSpace(table, architecture="arch", metrics=["same"])
    assert (space.num_merged, len(space)) == (1, 2)
    with pytest.raises(ValueError, match=r"must have one accuracy, got 0.5 and 0.6 for one of them. Set `duplicates`"):
        TabularSpace(table, architecture="arch")
    for duplicates, expected in {"first": [0.5, 0.7], "mean": [0.55, 0.7]}.items():
        space = TabularSpace(table, architecture="arch", duplicates=duplicates)
        assert space.column("accuracy").tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="`duplicates` must be one of error, first, mean, got 'last'"):
        TabularSpace(table, architecture="arch", duplicates="last")


def test_vectors_are_read_only():
    space = text_space()
    for array in (space.codes_NP, space.column("accuracy")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_space_survives_pickling():
    space = pickle.loads(pickle.dumps(text_space()))
    assert space.metrics(space.architectures[2]) == {"accuracy": 0.6, "latency_ms": 2}


def test_unusable_tables_are_refused(tmp_path):
    table = pd.DataFrame({"arch": TEXTS, "note": ["x", "y", "z"], **FIGURES})
    with pytest.raises(
        ValueError, match=r"`architecture` must name a column of the table such as 'arch', .* got 'ach'"
    ):
        TabularSpace(table, architecture="ach")
    with pytest.raises(ValueError, match=r"`metrics` must name a column of the table such as .*'accuracy'.* got 'acc'"):
        TabularSpace(table, architecture="arch", metrics=["acc"])
    with pytest.raises(ValueError, match=r"Metric `note` must be numeric, got 'x' in row 0 \(counted from 0\)"):
        TabularSpace(table, architecture="arch", metrics=["note"])
    with pytest.raises(ValueError, match="must have a row and a numeric column without gaps, got 0 rows and 2 metrics"):
        TabularSpace(table.iloc[:0], architecture="arch")
    with pytest.raises(ValueError, match="got 3 rows and 0 metrics"):
        TabularSpace(table[["arch", "note"]], architecture="arch")
    with pytest.raises(ValueError, match="must have a row with all of accuracy, got none"):
        TabularSpace(table.assign(accuracy=np.nan), architecture="arch", metrics=["accuracy"])
    with pytest.raises(ValueError, match=r"Row 1 \(counted from 0\) must hold an architecture in arch, got nothing"):
        TabularSpace(table.assign(arch=["a", None, "b"]), architecture="arch")
    with pytest.raises(ValueError, match="`space` must match"):
        TabularSpace(table, architecture="arch", name="no spaces")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (["1", None, "hello"], r"'hello' in row 2 \(counted from 0\)"),
        ([None, 1.5, [2.0]], r"\[2.0\] in row 2"),
        (["1", None, "2.5"], "a column of .* such as '1'. Save its values as numbers"),
        ([None, None, None], "a column of object. Save its values"),
    ],
)
def test_the_value_that_is_no_number_is_named(values, named):
    table = pd.DataFrame({"arch": TEXTS, "note": pd.Series(values, dtype=object)})
    with pytest.raises(ValueError, match=f"Metric `note` must be numeric, got {named}"):
        TabularSpace(table, architecture="arch", metrics=["note"])


def test_unusable_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be a table, got .*none.csv', which is not a file"):
        TabularSpace.from_file(tmp_path / "none.csv", architecture="arch")
    for name, message in {
        "a.parquet": "must be a readable table",
        "a.csv": "must be a readable",
        "a.txt": "end in",
    }.items():
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=message):
            TabularSpace.from_file(tmp_path / name, architecture="arch")


def test_foreign_choices_are_refused():
    space = text_space()
    choices = dict(space.smallest().choices)
    with pytest.raises(ValueError, match="`position_00` must be one of 'a~0', 'b~0', got 'c~0'"):
        space.canonical(choices | {"position_00": "c~0"})
    with pytest.raises(ValueError, match="must name each of its choices"):
        space.canonical({})
    with pytest.raises(ValueError, match="must belong to space"):
        space.check(Architecture.of("other", choices))
    for other in (Architecture.of("other", choices), Architecture.of(space.name, choices | {"position_02": "b~1"})):
        with pytest.raises(ValueError, match="must be listed in the table of 'tabular'"):
            space.index(other)
    with pytest.raises(ValueError, match="`metric` must be one of 'accuracy', 'latency_ms', got 'energy'"):
        space.column("energy")


@pytest.mark.data
def test_nasbench201_is_looked_up(nasbench201):
    space = TabularSpace.from_file(nasbench201, architecture="arch_str", metrics=["c10_test_acc_200ep", "index"])
    assert len(space) == 15625
    assert [len(options) for options in space.choices.values()] == [5] * 6
    best = space.architectures[int(space.column("c10_test_acc_200ep").argmax())]
    assert space.metrics(best)["c10_test_acc_200ep"] == pytest.approx(94.3733, abs=1e-4)
    row = space.index(space.canonical(best.choices))
    tokens = pd.read_parquet(nasbench201)["arch_str"][row].replace("+", "|").split("|")
    assert list(best.choices.values()) == [token for token in tokens if token]
