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
        ValueError: If the table has no such column.
    """
    columns = (architecture,) if architecture in table.columns else _names(architecture)
    if not columns:
        raise ValueError(f"`architecture` must name a column of the table, got {architecture!r}.")
    for column in columns:
        _require(table, column, "architecture")
    return columns


def _require(table: pd.DataFrame, column: str, argument: str) -> None:
    if column not in table.columns:
        known = closest(column, map(str, table.columns))
        raise ValueError(f"`{argument}` must name a column of the table such as {known}, got {column!r}.")


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
        ValueError: If the table has no such column or it is not numeric.
    """
    _require(table, metric, "metrics")
    column = table[metric]
    if not _is_numeric(column):
        example = next(iter(column.dropna()), None)
        raise ValueError(f"Metric `{metric}` must be numeric, got a column of {column.dtype} such as {example!r}.")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def closest(wanted: object, known: Iterable[object], count: int = 8) -> str:
    """Return the known values as text, only the closest ones if there are many."""
    texts = {str(value): short(value) for value in known}
    if len(texts) <= count:
        return ", ".join(texts.values())
    near = difflib.get_close_matches(str(wanted), texts, count, cutoff=0.4) or list(texts)[:count]
    return ", ".join(texts[text] for text in near) + f" ({len(texts)} in all)"
