"""The results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.quantities import MISSING

if TYPE_CHECKING:
    from rich.table import Table

_MAX_LABEL_LENGTH = 28


def result_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate the initial network and those found, within 100 columns.

    Args:
        results: Rows of the run's `results`.

    Returns:
        A table with accuracies in percent, MACs in millions, parameters in millions or thousands, latency in ms.
    """
    from rich.table import Table
    from rich.text import Text

    devices = dict.fromkeys(
        str(row["device"]) for row in results if row.get("device") and row.get("latency_ms") is not None
    )
    title = f"Results (latency on {', '.join(devices)})" if devices else "Results"
    is_large = max((row.get("parameters") or 0 for row in results), default=0) >= 1e6
    size, unit = (1e6, "M") if is_large else (1e3, "K")
    table = Table(title=Text(title), caption=None if results else "No result was recorded.")
    table.add_column("Network", overflow="fold", max_width=_MAX_LABEL_LENGTH)
    for head in ("Search acc. %", "Test acc. %", "MACs (M)", f"Params ({unit})", "Latency (ms)"):
        table.add_column(Text(head), justify="right")
    for row in results:
        table.add_row(
            Text(str(row.get("label", MISSING))),
            _scaled(row.get("accuracy_supernet"), 0.01, 2),
            _scaled(row.get("test_accuracy"), 0.01, 2),
            _scaled(row.get("macs"), 1e6, 2),
            _scaled(row.get("parameters"), size, 2 if is_large else 1),
            _scaled(row.get("latency_ms"), 1.0, 3),
        )
    return table


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return MISSING if value is None else f"{value / unit:.{digits}f}"
