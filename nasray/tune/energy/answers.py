"""Questions to processes of a cluster, of which some never answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray


class Answers:
    """Keeps what was asked until it is answered. Who was waited for once in vain is not waited for again.

    Args:
        timeout_s: How long to wait for who is asked, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._asked: dict[Any, str] = {}
        self._late: set[Any] = set()

    def __contains__(self, name: str) -> bool:
        """Return whether an answer of somebody is still to come."""
        return name in self._asked.values()

    def ask(self, name: str, answer: Any) -> None:
        """Expect an answer.

        Args:
            name: Who was asked.
            answer: Ray's reference to what it will be.
        """
        self._asked[answer] = name

    def take(self, *, waits: bool) -> Iterator[tuple[str, Any]]:
        """Yield the answers that are there, each once, by who gave it; `ray.get` of one raises if its process is gone.

        Args:
            waits: Whether to wait for those that were not waited for yet.
        """
        punctual = [answer for answer in self._asked if answer not in self._late]
        if waits and punctual:  # of nothing, Ray refuses to wait for the end
            self._late |= set(ray.wait(punctual, num_returns=len(punctual), timeout=self._timeout_s)[1])
        asked = list(self._asked)
        for answer in ray.wait(asked, num_returns=len(asked), timeout=0)[0] if asked else []:
            self._late.discard(answer)
            yield self._asked.pop(answer), answer
