"""Random search: the baseline of every comparison."""

from __future__ import annotations

from nasray.architecture import Architecture
from nasray.strategies.candidate_search import Candidate, CandidateSearch


class RandomSearch(CandidateSearch):
    """Draw architectures as the space draws them, each once.

    See `RandomAtCost` for the harder baseline under a cost limit.
    """

    def _propose(self) -> Architecture:
        return self.space.random(self._generator)

    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        """Learn nothing."""

    def _forget(self) -> None:
        """Forget nothing."""
