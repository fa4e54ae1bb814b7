"""Read what comes from outside: strict JSON, and dataclasses from it. Whatever is wrong is one ValueError.

Python's own reader takes NaN, Infinity, 1e400 and repeated keys, none of which is JSON or means what it says; deep
nesting ends it in a RecursionError. Messages say what is wrong; whoever knows the file adds its name and a remedy.
"""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")

_INDEX = re.compile(r"__index_level_\d+__")
_DEEPEST = 100
_MOST_DIGITS = 50  # the 128 bits of a generator's state have 39
_MOST_SHOWN = 80


def parse_json(content: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: If it is no strict JSON in UTF-8: torn, NaN, a number beyond all floats, a key that stands twice.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_object
        )
        _check_depth(value, text)
        if "\\u" in text or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8, from byte {error.start} on") from error
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair, which is no text") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def read_json(path: Path) -> Any:
    """Return the value that a JSON file holds.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no strict JSON in UTF-8.
    """
    return parse_json(path.read_bytes())


def read_frame(path: Path, *, is_csv: bool, **csv_options: Any) -> pd.DataFrame:
    """Return the table of a CSV or parquet file, with each column's name once.

    Args:
        path: The file.
        is_csv: Whether it is CSV, else parquet.
        csv_options: Of `pandas.read_csv`.

    Raises:
        ValueError: If it cannot be read, is no file, or a line of CSV has more cells than there are columns.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ValueError("it is not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without an index, or else pandas takes a surplus cell per line for one and moves all the others.
            table = pd.read_csv(path, index_col=False, **csv_options) if is_csv else _whole(pq.ParquetFile(path).read())
    except pd.errors.ParserWarning as error:
        raise ValueError("a line has more cells than there are columns") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(reason(error)) from error
    if not table.columns.is_unique:
        raise ValueError("two columns have the same name")
    return table


def _whole(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas has it, if all that it holds is what its types say, as text in UTF-8.

    What pandas wrote about itself into the file is passed over: the columns have types of their own.
    """
    table.validate(full=True)
    unnamed = [name for name in table.column_names if _INDEX.fullmatch(name)]
    frame: pd.DataFrame = table.drop_columns(unnamed).to_pandas(ignore_metadata=True)
    return frame


def build(kind: type[T], value: object) -> T:
    """Return a dataclass, named tuple or plain type from what `parse_json` gave, if every field has its type.

    Nothing is converted, so that the text "5" is no number and true is not 1; fields without a default must be
    there, and others than the fields must not.

    Raises:
        ValueError: If a field is missing, unknown, of another type, or out of the range that the type checks.
    """
    from pydantic import ValidationError

    try:
        text = json.dumps([value], allow_nan=False)
        found: T = _adapter(cast(Hashable, kind)).validate_json(text)[0]
    except ValidationError as error:
        raise ValueError(_first_problem(error)) from error
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    return found


def short(value: object) -> str:
    """Return a value as it is shown in a message, cut to 80 characters."""
    return cut(repr(value), _MOST_SHOWN)


def reason(error: Exception) -> str:
    """Return what an error says on one line, without its full stop, cut to 300 characters."""
    return cut(" ".join(str(error).split())).rstrip(".: ") or type(error).__name__


def cut(text: str, most: int = 300) -> str:
    """Return a text of at most so many characters, which ends in three dots if it was longer."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # Within a list, since the settings of a bare dataclass are its own.
    return TypeAdapter(list[kind], config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))


def _first_problem(error: Any) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    cause = (first.get("ctx") or {}).get("error")
    if isinstance(cause, Exception):
        return str(cause).rstrip(".")
    name = f"`{cut(place, _MOST_SHOWN)}`" if place else "it"
    if first["type"] in ("missing", "missing_argument"):
        return f"{name} must be there"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} must not be there"
    return f"{name} must be {first['msg'].removeprefix('Input should be ')}, got {short(first['input'])}"


def _check_depth(value: Any, text: str) -> None:
    """Refuse what is nested so deeply that showing or walking it could end in a RecursionError."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return
    level, depth = [value], 0
    while level := [part for each in level for part in _parts(each)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")


def _parts(value: Any) -> Iterable[Any]:
    """Return the lists and objects right below a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inner if isinstance(part, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {short(text)} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits is too large")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {short(twice)} stands twice")
    return found
