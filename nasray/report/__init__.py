"""What a run found, for people: the HTML page and the table in the terminal."""

from nasray.report.page import write_report
from nasray.report.terminal import result_table

__all__ = ["result_table", "write_report"]
