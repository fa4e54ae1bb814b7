"""Images that could not be decoded: named, counted and warned about once."""

import logging
import threading
import warnings

logger = logging.getLogger(__name__)

_NUM_NAMES_IN_WARNING = 3


class SkippedImages:
    """Collect the names of unreadable images from any number of decoding threads.

    The splits cut from one folder or file share one collector. A copy sent to another process collects on its own, so
    what a worker skips is known to that worker only.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._has_warned = False
        self._lock = threading.Lock()

    def add(self, name: str, reason: object) -> None:
        """Record that image `name` cannot be decoded; a name counts once however often it is tried."""
        with self._lock:
            is_new = name not in self._reasons
            self._reasons[name] = str(reason)
        if is_new:
            logger.info("Skipping unreadable image %s: %s", name, reason)

    @property
    def names(self) -> tuple[str, ...]:
        """The names recorded so far, sorted."""
        with self._lock:
            return tuple(sorted(self._reasons))

    def __len__(self) -> int:
        return len(self._reasons)

    def warn_once(self) -> None:
        """Warn with the count and the first names, the first time that there is something to warn about."""
        if self._has_warned or not self._reasons:
            return
        self._has_warned = True
        names = self.names
        shown = ", ".join(names[:_NUM_NAMES_IN_WARNING]) + (" and more" if len(names) > _NUM_NAMES_IN_WARNING else "")
        warnings.warn(
            f"Skipping {len(names):,} unreadable image(s) found so far: {shown}. Replace or delete them.", stacklevel=3
        )

    def __getstate__(self) -> dict[str, object]:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
