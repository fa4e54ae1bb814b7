"""Read the architectures that a table lists, as choices with sorted options and one integer code per cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nasray.architecture import Choice

if TYPE_CHECKING:
    import pandas as pd

ABSENT = ""
"""The option of a choice that some architectures of a table do not have."""

_SEPARATORS = re.compile(r"[|+,;\s]+")
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_FLOAT = re.compile(
    r"(?=.{1,16}$)-?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e-?\d{1,2})?", re.IGNORECASE
)  # longer ones lose digits

ReadRow = dict[str, Choice]


def read_rows(table: pd.DataFrame, columns: Sequence[str]) -> list[ReadRow]:
    """Return each row's architecture as a mapping of choice to value.

    A column of JSON text, mappings or lists gives one choice per key (`key`) or position (`position_00`), nested
    ones joined by dots. Other text of a single column is split into tokens at `|`, `+`, `,`, `;` and white space,
    one choice per position; of several columns, each one's text or number is one choice, named like the column.

    Args:
        table: The table, N rows.
        columns: Its columns that hold the architecture.

    Returns:
        N mappings; a choice that a row does not have is left out.

    Raises:
        ValueError: If a row has no architecture or a value that no choice can take.
    """
    if len(columns) == 1:
        parts = [[dict(_flatten(cell, "", columns[0])) for cell in _split(_cells(table, columns[0]))]]
    else:
        parts = [[dict(_flatten(cell, column, column)) for cell in _cells(table, column)] for column in columns]
    rows = [{name: value for part in row for name, value in part.items()} for row in zip(*parts, strict=True)]
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(
                f"Row {number} (counted from 0) must hold an architecture in {', '.join(columns)}, got nothing. "
                "Fill it in or remove the row."
            )
    return rows


def encode_rows(rows: Sequence[ReadRow]) -> tuple[dict[str, tuple[Choice, ...]], npt.NDArray[np.int32]]:
    """Return the options of each choice, sorted, and the index of each row's option.

    Choices are sorted by name. Options are sorted as numbers where they are numbers, otherwise as text in which runs
    of digits count as numbers; `ABSENT` comes first. Text becomes a number where all options of its choice can.

    Args:
        rows: N mappings of choice to value, as `read_rows` gives them.

    Returns:
        Options by the names of P choices, and codes (N, P).
    """
    names = sorted(set().union(*rows))
    codes_NP = np.empty((len(rows), len(names)), dtype=np.int32)
    choices: dict[str, tuple[Choice, ...]] = {}
    for place, name in enumerate(names):
        column = _as_numbers([row.get(name, ABSENT) for row in rows])
        choices[name] = tuple(sorted(set(column), key=_order))
        code = {option: index for index, option in enumerate(choices[name])}
        codes_NP[:, place] = [code[value] for value in column]
    return choices, codes_NP


def _cells(table: pd.DataFrame, column: str) -> list[object]:
    """Return a column as Python objects, JSON parsed if all of it is JSON, `None` where there is nothing."""
    is_missing = table[column].isna().tolist()
    values = table[column].astype(object).tolist()
    cells = [None if missing or value == "" else value for missing, value in _pairs(is_missing, values)]
    parsed = [_parse_json(cell) for cell in cells if cell is not None]
    if not parsed or any(value is None for value in parsed):
        return cells
    remaining = iter(parsed)
    return [None if cell is None else next(remaining) for cell in cells]


def _pairs(is_missing: list[bool], values: list[object]) -> Iterator[tuple[bool, object]]:
    """Pair the flags with the values; arrays become lists, which can be compared with text."""
    for missing, value in zip(is_missing, values, strict=True):
        yield missing, value.tolist() if isinstance(value, np.ndarray) else value


def _parse_json(cell: object) -> object | None:
    """Return the object or array that a text holds, or `None`."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return None
    try:
        value: object = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return value


def _split(cells: Iterable[object]) -> Iterator[object]:
    for cell in cells:
        yield [token for token in _SEPARATORS.split(cell) if token] if isinstance(cell, str) else cell


def _flatten(value: object, name: str, column: str) -> Iterator[tuple[str, Choice]]:
    """Yield the name and value of every number, text or boolean in a value; what is missing is left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, f"{name}.{key}" if name else str(key), column)
    elif isinstance(value, list | tuple | np.ndarray):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{name}.{index:02d}" if name else f"position_{index:02d}", column)
    elif isinstance(value, np.generic):
        yield from _flatten(value.item(), name, column)
    elif isinstance(value, Choice):
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"Column `{column}` must hold finite numbers, got {value}.")
        if value == value:  # not NaN, which stands for a missing entry
            yield name or column, value
    elif value is not None:
        raise ValueError(f"Column `{column}` must hold text, numbers, lists or mappings, got {value!r}.")


def _as_numbers(column: list[Choice]) -> list[Choice]:
    """Turn text into numbers where every text of the column is a number and none becomes equal to another."""
    texts = {value for value in column if value != ABSENT}
    if not all(isinstance(text, str) for text in texts):
        return column
    for pattern, convert in ((_INTEGER, int), (_FLOAT, float)):
        numbers: dict[Choice, Choice] = {text: convert(str(text)) for text in texts if pattern.fullmatch(str(text))}
        if len(texts) == len(numbers) == len(set(numbers.values())):
            return [numbers.get(value, ABSENT) for value in column]
    return column


def _order(option: Choice) -> tuple[int, float, list[str | tuple[int, str]], str]:
    if not isinstance(option, str):
        return 1, option, [], ""
    if option == ABSENT:
        return 0, 0, [], ""
    parts = re.split(r"(\d+)", option)
    return 2, 0, [_number_order(part) if index % 2 else part for index, part in enumerate(parts)], option


def _number_order(digits: str) -> tuple[int, str]:
    """Return what sorts like the number, whatever its length."""
    digits = digits.lstrip("0")
    return len(digits), digits
