"""JSON lines that are only ever appended: what a crash tore is dropped, everything before it stays."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nasray.reading import parse_json
from nasray.records.files import RunError, writing

_BLOCK_BYTES = 1 << 16


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append all of the lines or none, on the disk when this returns.

    A last line that an earlier crash tore is cut away first.

    Args:
        path: The file; made if missing.
        lines: JSON objects, each on a single line and without its newline.

    Raises:
        RunError: If the file cannot be written.
    """
    if not lines:
        return
    # Without a buffer: what is left in one is written once more when the file is closed.
    with writing(path), path.open("a+b", buffering=0) as file:
        _mend_tail(file)
        whole = file.seek(0, os.SEEK_END)
        try:
            _write_all(file, "".join(line + "\n" for line in lines).encode())
            os.fsync(file.fileno())
        except OSError:
            # Lines that are left would be there twice if the caller appends them again.
            with contextlib.suppress(OSError):
                file.truncate(whole)
            raise


def mend(path: Path) -> int:
    """Cut a torn last line away, as the next `append_lines` would.

    Returns:
        Bytes that were cut; 0 if the file is whole or missing.

    Raises:
        RunError: If the file cannot be written.
    """
    if not path.exists():
        return 0
    with writing(path), path.open("a+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        _mend_tail(file)
        return max(0, before - file.seek(0, os.SEEK_END))


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read the objects with their line numbers (from 1); a torn last line is dropped.

    Args:
        path: The file; a missing one holds nothing.

    Raises:
        RunError: If a line before the last is damaged.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}). Check the path and its permissions.") from error
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
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


def _write_all(file: BinaryIO, content: bytes) -> None:
    """Write all; a file without a buffer may take a part at a time, such as what the disk still has room for."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _mend_tail(file: BinaryIO) -> None:
    """Cut a torn last line away; end a whole one that lacks its newline."""
    start, last = _last_line(file)
    if not last:
        return
    if _object_or_none(last) is None:
        file.truncate(start)
    elif not last.endswith(b"\n"):
        _write_all(file, b"\n")


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
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
