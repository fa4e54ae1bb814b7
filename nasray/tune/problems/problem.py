"""What a search can be about: a space, and how its architectures get their figures."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.carbon.bill import Bill, StageEstimate
from nasray.formulations import Formulation
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.tune.energy.calibration import Calibration
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.measured_again import Remeasure
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig

ACCURACY = Objective(name="accuracy", direction="maximize", ideal=1.0)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search runs and what it shows.

    Args:
        run: Where to record.
        progress: What to show meanwhile.
        cluster: Which Ray.
        num_workers: Evaluators; None for one per GPU or processor.
        timeout_s: How long a candidate may take, in seconds; None for no limit.
        max_failures: How many candidates in a row may fail until the search ends; None as `FailureLimit.of` says.
        energy: Where the electricity is from, and the budget.
    """

    run: RunDirectory
    progress: StageProgress
    cluster: ClusterConfig
    num_workers: int | None = None
    timeout_s: float | None = None
    max_failures: int | None = None
    energy: EnergySettings = field(default_factory=EnergySettings)


class Problem(abc.ABC):
    """A search space, and figures for its architectures.

    `metrics` are the figures that an evaluation has; `objectives` what a study optimises and `num_evaluations` how many
    candidates it evaluates, unless it says otherwise; `initial` the architectures that it starts with; `is_on_ray` is
    whether candidates are evaluated on Ray, or in this process.
    """

    space: SearchSpace
    metrics: Sequence[str]
    objectives: Sequence[Objective]
    num_evaluations: int
    initial: Sequence[Architecture] = ()
    is_on_ray: bool = True

    @abc.abstractmethod
    def describe(self) -> list[str]:
        """Return what will be done, a line each."""

    @abc.abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Return everything that decides a candidate's figures besides the data, as JSON."""

    @abc.abstractmethod
    def data(self) -> dict[str, Any]:
        """Return the description of the data, with its `fingerprint`, as JSON."""

    @abc.abstractmethod
    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Carry the search out, or what is left of it, and return what was found.

        Args:
            strategy: What to ask.
            place: Where.
            formulation: Objectives and constraints of what is returned; by default the strategy's own.
        """

    @abc.abstractmethod
    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Do some of the work, and return how much there is of it.

        Args:
            calibration: What times the work.
        """

    def remeasure(self, formulation: Formulation) -> Remeasure | None:
        """Return how a cost of the formulation is measured once more after the search; None if none is worth it."""
        return None

    def bill(self, energy: EnergySettings, *, num_evaluations: int, num_workers: int, device: str = "cpu") -> Bill:
        """Return what a search will probably cost, after a calibration of some seconds.

        Args:
            energy: Where the electricity is from.
            num_evaluations: Candidates.
            num_workers: Workers that share them.
            device: Where a worker computes.
        """
        with Calibration(device=device) as calibration:
            works = self.calibrate(calibration)
        stages = [work.estimate(calibration, num_evaluations, num_workers) for work in works]
        return calibration.bill(stages, energy, is_on_ray=self.is_on_ray)

    def check(self, formulation: Formulation) -> None:
        """Refuse metrics that candidates do not have.

        Raises:
            ValueError: If there is one.
        """
        if unknown := [name for name in formulation.metrics if name not in self.metrics]:
            raise ValueError(
                f"An objective or constraint on {self.space.name} must be one of {', '.join(self.metrics)}, "
                f"got {unknown[0]!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Work:
    """A stage of a search as a calibration found it.

    Args:
        stage: Its name.
        seconds: What the stage takes one worker at once.
        seconds_each: What a candidate takes.
        is_shared: Whether all workers share it.
        bytes_each: What a candidate leaves on disk.
        parameters: Of the networks that are trained and whose weights are kept.
    """

    stage: str
    seconds: float = 0.0
    seconds_each: float = 0.0
    is_shared: bool = True
    bytes_each: int = 7_000
    parameters: int = 0

    def estimate(self, calibration: Calibration, num_evaluations: int, num_workers: int) -> StageEstimate:
        """Return what the stage will probably take with so many candidates and workers."""
        return calibration.stage(
            self.stage,
            self.seconds + self.seconds_each * num_evaluations,
            num_workers=num_workers if self.is_shared else 1,
            evaluations=num_evaluations if self.seconds_each else 0,
            bytes_each=self.bytes_each,
            parameters=self.parameters,
        )
