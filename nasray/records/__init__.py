"""The run directory: everything that a run leaves on disk, and the only contract on disk."""

from nasray.records.directory import RunDirectory
from nasray.records.files import JSON, DiskError, RunError

__all__ = ["JSON", "DiskError", "RunDirectory", "RunError"]
