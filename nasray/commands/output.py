"""How commands print: a table for people, or JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, unknown figures as null."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_table(rows: Rows, *, title: str | None = None, columns: Sequence[str] | None = None) -> None:
    """Print rows as a table; metrics with their units, a dash for what is unknown.

    Args:
        rows: Values by column; the first row's columns are shown unless others are named.
        title: Above the table.
        columns: Which columns, in order.
    """
    from rich.console import Console
    from rich.table import Table

    names = list(columns or (rows[0] if rows else ()))
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(shown(name, row.get(name)) for name in names))
    Console().print(table, markup=False)


def shown(name: str, value: Any) -> str:
    """Return a value as people read it: a metric with its unit, a dash if it is unknown."""
    from nasray.report.quantities import format_metric

    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return format_metric(name, value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
