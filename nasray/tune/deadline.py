"""A time limit on work in this process, whatever the work is doing."""

from __future__ import annotations

import faulthandler
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 30.0
"""How long work in native code may ignore its time-out before the process is ended, in seconds."""

_STDERR = 2


@contextmanager
def deadline(timeout_s: float | None, *, grace_s: float = GRACE_S) -> Iterator[None]:
    """Raise TimeoutError in the block after a time; end the process if it doesn't leave the block even then.

    In the main thread the error comes between two Python instructions. Native code that does not return, blocks in
    other threads, and code that catches the error only meet the end of the process, which writes where each thread is
    to standard error. That needs neither a Python instruction nor the interpreter's lock. It belongs into a process
    that may be lost, and a process has room for one such limit at a time.

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
    check_timeout(timeout_s)
    message = took_longer(timeout_s)

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(message)

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, expire) if is_main else None
    faulthandler.dump_traceback_later(timeout_s + grace_s, exit=True, file=_STDERR)
    try:
        try:
            if is_main:
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
            yield
        finally:
            if is_main:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # reached also when the time runs out just before the clock is stopped
        faulthandler.cancel_dump_traceback_later()
        if is_main:
            signal.signal(signal.SIGALRM, before)


def took_longer(timeout_s: float) -> str:
    """Return the sentence about work that met its limit."""
    return f"took longer than {timeout_s:g} s"


def check_timeout(timeout_s: float | None) -> None:
    """Refuse a limit that is none.

    Raises:
        ValueError: If the time is not positive.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"`timeout_s` must be positive, got {timeout_s}. Leave it out for no limit.")
