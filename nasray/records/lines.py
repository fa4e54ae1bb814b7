"""JSON lines that are only ever appended: what a crash tore is dropped, everything before it stays."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nasray.records.files import RunError, cannot_write

_BLOCK_BYTES = 1 << 16


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append lines in one write, on the disk when this returns.

    A last line that an earlier crash tore is cut away first.

    Args:
        path: The file; made if missing.
        lines: JSON objects, each on a single line and without its newline.

    Raises:
        RunError: If the file cannot be written.
    """
    if not lines:
        return
    try:
        with path.open("a+b") as file:
            _mend_tail(file)
            file.write("".join(line + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read the objects with their line numbers (from 1); a torn last line is dropped.

    Args:
        path: The file; a missing one holds nothing.

    Raises:
        RunError: If a line before the last is damaged.
    """
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    rows = []
    for number, line in lines:
        value = _object_or_none(line)
        if value is not None:
            rows.append((number, value))
        elif number != lines[-1][0]:
            raise RunError(
                f"{path} line {number} is damaged, although later lines are whole. Delete that line, or restore the "
                "file from a copy."
            )
    return rows


def _mend_tail(file: BinaryIO) -> None:
    """Cut a torn last line away; end a whole one that lacks its newline."""
    start, last = _last_line(file)
    if not last:
        return
    if _object_or_none(last) is None:
        file.truncate(start)
    elif not last.endswith(b"\n"):
        file.write(b"\n")


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the last line starts, in bytes, and its bytes; reads no more than it must."""
    start, tail = file.seek(0, os.SEEK_END), b""
    while start > 0 and b"\n" not in tail[:-1]:
        step = min(_BLOCK_BYTES, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    cut = tail.rfind(b"\n", 0, max(len(tail) - 1, 0)) + 1
    return start + cut, tail[cut:]


def _object_or_none(line: bytes) -> dict[str, Any] | None:
    # A strict prefix of a JSON object is never itself one, so parsing tells a torn line from a whole one.
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
