"""How commands print: a table for people, or JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]

_LONGEST_WORD = 24
"""Characters of a cell that is broken last; longer ones are texts and paths."""

_UNLIMITED = 10_000


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, unknown figures as null."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_table(rows: Rows, *, title: str | None = None, columns: Sequence[str] | None = None) -> None:
    """Print rows as a table; metrics with their units, a dash for what is unknown.

    A few rows that are wider than the terminal are printed as columns. No word is broken if there is any other way.

    Args:
        rows: Values by column; the first row's columns are shown unless others are named.
        title: Above the table.
        columns: Which columns, in order.
    """
    from rich.console import Console
    from rich.measure import Measurement

    names = list(columns or (rows[0] if rows else ()))
    cells = [[shown(name, row.get(name)) for name in names] for row in rows]
    console = Console()
    table = _table(title, names, cells)
    if Measurement.get(console, console.options.update(max_width=_UNLIMITED), table).maximum > console.width:
        if len(rows) < len(names) - 1:
            heads, *lines = zip(names, *cells, strict=True)
            table = _table(title, heads, lines)
        else:
            table = _table(title, [name.replace("_", " ").replace(" ", "\n") for name in names], cells)
    console.print(table, markup=False)


def _table(title: str | None, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for head, column in zip(heads, zip(*cells, strict=True) if cells else [()] * len(heads), strict=True):
        is_word = all(len(cell) <= _LONGEST_WORD for cell in column)
        table.add_column(head, overflow="fold", no_wrap=is_word)
    for row in cells:
        table.add_row(*row)
    return table


def shown(name: str, value: Any) -> str:
    """Return a value as people read it: a metric with its unit, a dash if it is unknown."""
    from nasray.report.quantities import QUANTITIES, format_metric

    if isinstance(value, int) and not isinstance(value, bool) and name not in QUANTITIES:
        return str(value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return format_metric(name, value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
