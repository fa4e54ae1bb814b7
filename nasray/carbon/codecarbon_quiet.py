"""codecarbon without its side effects: no messages, and no settings from environment variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version


def codecarbon_name() -> str:
    """Return "codecarbon" and its version, for sources."""
    return f"codecarbon {version('codecarbon')}"


@contextmanager
def quiet_codecarbon() -> Iterator[None]:
    """Silence codecarbon's logger and hide CODECARBON_* from it, inside the block."""
    import codecarbon.external.logger  # noqa: F401  # importing it sets the level anew

    logger = logging.getLogger("codecarbon")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    hidden = {key: os.environ.pop(key) for key in list(os.environ) if key.lower().startswith("codecarbon_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
        logger.setLevel(level)
