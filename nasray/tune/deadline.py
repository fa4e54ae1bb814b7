"""A time limit on work in this process, whatever the work is doing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 30.0
"""How long work in native code may ignore its time-out before the process is ended, in seconds."""


@contextmanager
def deadline(timeout_s: float | None, *, grace_s: float = GRACE_S) -> Iterator[None]:
    """Raise TimeoutError in the block after a time; end the process if it doesn't leave the block even then.

    In the main thread the error comes between two Python instructions. Native code that does not return, and blocks
    in other threads, only meet the end of the process, so this belongs into a process that may be lost.

    Args:
        timeout_s: Time for the block, in seconds; None for no limit.
        grace_s: Time after which the process ends with status 1, in seconds beyond the first.

    Raises:
        TimeoutError: If the block takes longer.
        ValueError: If the time is not positive.
    """
    if timeout_s is None:
        yield
        return
    if not timeout_s > 0:
        raise ValueError(f"`timeout_s` must be positive, got {timeout_s}. Leave it out for no limit.")
    message = f"took longer than {timeout_s:g} s"

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(message)

    watchdog = threading.Timer(timeout_s + grace_s, os._exit, (1,))
    watchdog.daemon = True
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, expire) if is_main else None
    watchdog.start()
    try:
        try:
            if is_main:
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
            yield
        finally:
            if is_main:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # reached also when the time runs out just before the clock is stopped
        watchdog.cancel()
        if is_main:
            signal.signal(signal.SIGALRM, before)
