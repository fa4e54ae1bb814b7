"""A disk that takes no more: what tells it from other errors, and the room that a run keeps to end cleanly."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
"""Full, over its quota, broken, or read-only by now: nothing that the run did, and mended outside of it."""

RESERVE = ".reserve"
RESERVE_BYTES = 8 << 20
"""Enough for the last records of a run: a report of 5 MB, the account, the search's state, `run.json`."""


def is_disk_error(error: BaseException | None) -> bool:
    """Return whether an operating system's error means that the disk takes no more."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def keep_reserve(folder: Path) -> None:
    """Set room aside in a folder, as a file that the first write that finds no room removes.

    Random bytes: holes take no room, and some file systems compress everything else.

    Raises:
        OSError: If there is no room even for that.
    """
    path = folder / RESERVE
    try:
        with path.open("wb") as file:
            file.write(os.urandom(RESERVE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        give_up_reserve(folder)
        raise


def give_up_reserve(folder: Path) -> None:
    """Give the room that was set aside in a folder, if there is any, to whatever is written next."""
    with contextlib.suppress(OSError):  # a disk that is read-only or broken has no room to give
        (folder / RESERVE).unlink(missing_ok=True)


def has_reserve(folder: Path) -> bool:
    """Return whether room is set aside in a folder: if it was and is not, a write has found no room."""
    return (folder / RESERVE).exists()
