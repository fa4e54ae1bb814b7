"""How records reach the disk: safe names, strict JSON, and files replaced as a whole."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from nasray.reading import read_json, short
from nasray.records.disk import give_up_reserve, is_disk_error

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

_MAX_NAME_LENGTH = 200


class RunError(ValueError):
    """A run directory cannot be used as asked; the message is what is wrong and its remedy."""


class DiskError(RunError):
    """The disk takes no more: full, over quota, read-only or broken. The run stops, and goes on when there is room."""


def check_name(name: object, what: str) -> str:
    """Return a name that stays inside its folder when a file is named after it.

    Args:
        name: Candidate name, such as an architecture id.
        what: How the caller calls it, for the message.

    Raises:
        RunError: If the name is empty, too long, hidden, or holds "/", a backslash, ".." or a control character.
    """
    is_safe = (
        isinstance(name, str)
        and 0 < len(name) <= _MAX_NAME_LENGTH
        and not name.startswith(".")
        and not any(part in name for part in ("/", "\\", ".."))
        and name.isprintable()
    )
    if not is_safe:
        raise RunError(
            f"`{what}` must be a name of 1 to {_MAX_NAME_LENGTH} characters that does not start with a dot and holds "
            f"no '/', backslash or '..', got {short(name)}. Rename it."
        )
    return str(name)


def to_json(value: object, what: str, *, indent: int | None = None) -> str:
    """Write a value as strict JSON.

    NumPy scalars become numbers and paths become text. NaN and infinity are refused: not every reader takes them,
    and a missing measurement is said by leaving it out.

    Args:
        value: What to write.
        what: Its name, for the message.
        indent: Spaces per level, or `None` for a single line.

    Raises:
        RunError: If the value, or anything inside it, cannot be written.
    """
    try:
        return json.dumps(value, allow_nan=False, indent=indent, default=_plain)
    except (TypeError, ValueError) as error:
        place, found = _first_offender(value, what) or (what, value)
        raise RunError(
            f"`{place}` must be text, a finite number, or a list or mapping of these, got {found!r}. "
            "Leave out what was not measured."
        ) from error


def digest(value: JSON) -> str:
    """Return the SHA-256 of a value's canonical JSON, as "sha256:" and 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash at any moment, finds the old content or the new, never a part.

    Raises:
        RunError: If the file cannot be written; a `DiskError` if the disk takes no more. Then the old one stays.
    """
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Replace a file as `write_whole` does.

    Raises:
        RunError: Likewise.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # a part of it would only take room
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence that the block could not write a path, and make room for a run's last records.

    Raises:
        RunError: In place of an `OSError`; a `DiskError` if the disk takes no more.
    """
    try:
        yield
    except OSError as error:
        if is_disk_error(error):
            give_up_reserve(path.parent)
        raise cannot_write(path, error) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object that a file holds.

    Raises:
        RunError: If the file is missing, truncated, or holds something else.
    """
    try:
        value = read_json(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({_cause(error)}). Check the path and its permissions.") from error
    except ValueError as error:
        raise RunError(
            f"{path} is truncated or damaged ({error}). Restore it from a copy or choose another --run-dir."
        ) from error
    if not isinstance(value, dict):
        raise RunError(f"{path} must hold a JSON object, got {type(value).__name__}. Restore it from a copy.")
    return value


def cannot_write(path: Path, error: OSError) -> RunError:
    """Say that a path cannot be written, why, and what to do."""
    what = f"{path} cannot be written ({_cause(error)})."
    if is_disk_error(error):
        return DiskError(f"{what} Free its disk and go on with --resume, or choose another --run-dir.")
    return RunError(f"{what} Free its disk or choose another --run-dir.")


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _plain(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _first_offender(value: object, place: str) -> tuple[str, object] | None:
    """Find the first part of a value that is not JSON, and where it is."""
    if isinstance(value, Mapping):
        parts = [(f"{place}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    else:
        try:
            json.dumps(value, allow_nan=False, default=_plain)
        except (TypeError, ValueError):
            return place, value
        return None
    return next((found for name, item in parts if (found := _first_offender(item, name))), None)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
