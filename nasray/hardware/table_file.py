"""The lookup table on disk: a header line, then one JSON line for each measurement or check, only ever appended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasray.reading import parse_json

SCHEMA_VERSION = 1


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append one JSON object as a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def read_rows(path: Path, what: str = "latency table") -> list[dict[str, Any]]:
    """Read all lines, the header first; a last line that was torn by a crash is dropped.

    Args:
        path: The file.
        what: What it holds, for messages.

    Raises:
        ValueError: If the file is missing, damaged, or of another schema version.
    """
    if not path.exists():
        name = what.rsplit(maxsplit=1)[-1]
        raise ValueError(f"`path` must be a {what}, got {path}, which does not exist. Build the {name} first.")
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ValueError(f"`path` must be a {what}, got {path}, which cannot be read ({error.strerror}).") from error
    rows = [_parse(line) for line in lines]
    if rows and rows[-1] is None:
        rows.pop()
    if not rows or None in rows or "schema_version" not in rows[0]:  # type: ignore[operator]
        raise ValueError(f"`path` must be a {what}, got {path}, which is damaged. Delete it and build it again.")
    whole = [row for row in rows if row is not None]
    if whole[0]["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"`path` must be a {what} of schema version {SCHEMA_VERSION}, got version "
            f"{whole[0]['schema_version']} in {path}. Delete it and build it again."
        )
    return whole


def mend(path: Path) -> None:
    """Cut off what follows the last whole line; delete a file that holds no whole line."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        path.unlink()
    elif whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line; `None` if the line is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
