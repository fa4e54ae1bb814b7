"""Ctrl-C ends a search with its state saved, instead of in the middle of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune


class Interrupt(tune.Stopper):
    """Stops all trials of an experiment once it is set."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never end a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        return self.is_set


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn the first interrupt of the block into a wish to stop; the second one interrupts as ever."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def set_once(number: int, frame: FrameType | None) -> None:
        if interrupt.is_set:
            raise KeyboardInterrupt
        interrupt.is_set = True

    before = signal.signal(signal.SIGINT, set_once)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
