"""Read a table and find its columns of architectures and of figures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nasray.reading import read_frame, short

if TYPE_CHECKING:
    import pandas as pd


class UnknownColumnError(ValueError):
    """A name that no column of a table has.

    Args:
        argument: Who named it.
        column: The name.
        known: Columns that it could be, as text.
    """

    def __init__(self, argument: str, column: str, known: str) -> None:
        super().__init__(f"`{argument}` must name a column of the table such as {known}, got {column!r}.")
        self.argument, self.column, self.known = argument, column, known

    def __reduce__(self) -> tuple[type[UnknownColumnError], tuple[str, str, str]]:
        """Return what makes it anew in another process."""
        return type(self), (self.argument, self.column, self.known)


def read_table(path: Path, architecture: str) -> pd.DataFrame:
    """Return the table of a parquet or CSV file; architectures in CSV stay text as it is written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a table, got {str(path)!r}, which is not a file.")
    try:
        if path.suffix == ".parquet":
            return read_frame(path, is_csv=False)
        if ".csv" in path.suffixes:  # a converter keeps "None" and "010" from becoming NaN and 10
            texts = dict.fromkeys((architecture, *_names(architecture)), str.strip)
            return read_frame(path, is_csv=True, converters=texts)
    except ValueError as error:
        raise ValueError(
            f"`path` must be a readable table, got {str(path)!r} ({error}). Save it again as CSV or parquet."
        ) from error
    raise ValueError(f"`path` must end in .parquet or .csv, got {path.name!r}.")


def _names(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",") if name.strip())


def architecture_columns(architecture: str, table: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that the text names: one, or several joined by commas.

    Raises:
        UnknownColumnError: If the table has no such column.
        ValueError: If the text names none.
    """
    columns = (architecture,) if architecture in table.columns else _names(architecture)
    if not columns:
        raise ValueError(f"`architecture` must name a column of the table, got {architecture!r}.")
    for column in columns:
        _require(table, column, "architecture")
    return columns


def _require(table: pd.DataFrame, column: str, argument: str) -> None:
    if column not in table.columns:
        raise UnknownColumnError(argument, column, closest(column, map(str, table.columns)))


def complete_metrics(table: pd.DataFrame, architecture: Iterable[str]) -> tuple[str, ...]:
    """Return the numeric columns, other than those of the architecture, that have a finite figure in every row."""
    names = [name for name in table.columns if isinstance(name, str) and name not in architecture]
    return tuple(name for name in names if _is_numeric(table[name]) and np.isfinite(read_figures(table, name)).all())


def _is_numeric(column: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)


def read_figures(table: pd.DataFrame, metric: str) -> npt.NDArray[np.float64]:
    """Return a column of figures, (N,), NaN where there is none.

    Raises:
        UnknownColumnError: If the table has no such column.
        ValueError: If it is not numeric.
    """
    _require(table, metric, "metrics")
    column = table[metric]
    if not _is_numeric(column):
        raise ValueError(f"Metric `{metric}` must be numeric, got {_example(column)}.")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _example(column: pd.Series) -> str:
    """Say what of a column is no number: the first such value, or of what kind all are."""
    cells = zip(column.isna().tolist(), column.tolist(), strict=True)
    present = [(row, value) for row, (is_missing, value) in enumerate(cells) if not is_missing]
    for row, value in present:
        if not _is_number(value):
            return f"{short(value)} in row {row} (counted from 0). Correct it, empty it or use another column"
    some = f" such as {short(present[0][1])}" if present else ""
    return f"a column of {column.dtype}{some}. Save its values as numbers"


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]  # whatever it is, float() knows
    except (TypeError, ValueError):
        return False
    return True


def closest(wanted: object, known: Iterable[object], count: int = 8) -> str:
    """Return the known values as text, only the closest ones if there are many."""
    texts = {str(value): short(value) for value in known}
    if len(texts) <= count:
        return ", ".join(texts.values())
    near = difflib.get_close_matches(str(wanted), texts, count, cutoff=0.4) or list(texts)[:count]
    return ", ".join(texts[text] for text in near) + f" ({len(texts)} in all)"
