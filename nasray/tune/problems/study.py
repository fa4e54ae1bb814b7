"""A Pareto study with one of Optuna's samplers: what it searches, its strategy, and its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasray.archive import ParetoArchive
from nasray.data import load_image_data
from nasray.formulations import Pareto
from nasray.models.build import NetworkSpace
from nasray.objectives import Constraint, Direction, Objective
from nasray.optuna_study import OptunaStrategy
from nasray.report import write_report
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.table_columns import UnknownColumnError
from nasray.training.config import TrainingConfig
from nasray.tune.measured_again import check_front
from nasray.tune.netadapt_settings import PRESETS
from nasray.tune.problems.problem import Place, Problem
from nasray.tune.problems.subnets import SubnetProblem
from nasray.tune.problems.table import COMBINE, TableProblem
from nasray.tune.problems.trained import TrainedProblem

SPACES = ("mobile", "chain", "cell", "tabular")
_OF_TABLES = ("table", "architecture", "combine", "duplicates")
_EPOCHS_TRAINED, _MAX_TRAIN, _CELLS_PER_STAGE = 5, 5000, 1


@dataclass(frozen=True, kw_only=True)
class ParetoSettings:
    """What a study searches and how; where it runs is not in here.

    Args:
        space: One of `SPACES`.
        objectives: What to optimise; none for the space's own.
        constraints: Limits on metrics.
        sampler: Optuna's sampler.
        population_size: Candidates of a generation of NSGA; None for Optuna's 50.
        evaluations: Candidates; None for the space's own number.
        epochs: Of the supernet, or of each network that is trained; None for the space's own number.
        seed: Of everything.
        table: File of a tabular space.
        architecture: Column of its architectures.
        devices: Its columns with costs on several devices, which become objectives.
        combine: How they do; one of `COMBINE`, None for the worst case.
        duplicates: What to do with an architecture listed again with other figures; None for "error".
        data: Folder of images; None for the bundled digits.
    """

    space: str = "mobile"
    objectives: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    sampler: str = "nsga2"
    population_size: int | None = None
    evaluations: int | None = None
    epochs: int | None = None
    seed: int = 0
    table: Path | None = None
    architecture: str | None = None
    devices: tuple[str, ...] = ()
    combine: str | None = None
    duplicates: str | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"`space` must be one of {', '.join(SPACES)}, got {self.space!r}.")
        if self.evaluations is not None and self.evaluations < 1:
            raise ValueError(f"`evaluations` must be at least 1, got {self.evaluations}.")
        is_table = self.space == "tabular"
        if self.devices and not is_table:
            raise ValueError(f"`devices` must be left out with the space {self.space}: they are columns of a table.")
        for name in (*_OF_TABLES, "data", "epochs"):
            if (getattr(self, name) is not None) and is_table != (name in _OF_TABLES):
                raise ValueError(f"`{name}` must be left out with the space {self.space}, which has no use for it.")
        if is_table and not (self.table and self.architecture and self.objectives):
            raise ValueError(
                "`table`, `architecture` and an objective must be given with the space tabular. Name the file, the "
                "column of the architectures, and what to minimize or maximize."
            )
        if self.combine is not None and not self.devices:
            raise ValueError(f"`combine` must be left out without `devices`, got {self.combine!r}. Name the devices.")

    def problem(self) -> Problem:
        """Return the space with its data; reads tables and images.

        Raises:
            ValueError: If they cannot be read, or candidates lack a metric.
        """
        if self.table and self.architecture:
            return self._of_table(self.table, self.architecture)
        images = load_image_data(self.data, max_train=_MAX_TRAIN if self.data else None, seed=self.seed)
        if self.space == "mobile":
            settings = PRESETS["quick"]()
            if self.epochs:
                settings = replace(settings, supernet=_rescaled(settings.supernet, self.epochs))
            return SubnetProblem(settings, images, seed=self.seed, batch_size=self.population_size or 50)
        classes, channels, resolution = images.num_classes, images.channels, images.resolution
        space: NetworkSpace = (
            ChainSpace(num_classes=classes, in_channels=channels, resolution=resolution)
            if self.space == "chain"
            else CellSpace(num_classes=classes, in_channels=channels, resolution=resolution, num_cells=_CELLS_PER_STAGE)
        )
        recipe = _rescaled(PRESETS["quick"]().final, self.epochs or _EPOCHS_TRAINED)
        return TrainedProblem(space, images, recipe, seed=self.seed)

    def _of_table(self, table: Path, architecture: str) -> TableProblem:
        named_by: dict[str, str] = {objective.name: objective.direction for objective in self.objectives}
        named_by |= {limit.metric: "constraint" for limit in self.constraints if limit.metric not in named_by}
        try:
            return TableProblem(
                table,
                architecture,
                list(named_by),
                devices=self.devices,
                combine=self.combine or next(iter(COMBINE)),
                duplicates=self.duplicates or "error",
            )
        except UnknownColumnError as error:
            if error.argument != "metrics":
                raise
            # Whoever reads this has named an objective, a constraint or a device, and no "metrics".
            raise UnknownColumnError(named_by.get(error.column, "devices"), error.column, error.known) from None


class ParetoStudy:
    """One study: checks what is asked, and carries it out.

    Args:
        settings: What to do.

    Raises:
        ValueError: If a setting is wrong or does not fit the others.
    """

    def __init__(self, settings: ParetoSettings) -> None:
        self.settings, self.problem = settings, settings.problem()
        objectives = settings.objectives or self.problem.objectives
        if settings.devices:
            objectives = (*settings.objectives, *self.problem.objectives)
        self.formulation = Pareto(objectives, settings.constraints)
        self.problem.check(self.formulation)
        self.num_evaluations = self.strategy(None, "check").num_evaluations

    def strategy(self, storage: str | None, study_name: str) -> OptunaStrategy:
        """Return the strategy; it goes on where the study in the storage is."""
        settings, given = self.settings, self.settings.evaluations
        return OptunaStrategy(
            self.problem.space,
            self.formulation,
            num_evaluations=self.problem.num_evaluations if given is None else given,
            generator=np.random.default_rng(settings.seed),
            sampler=settings.sampler,
            population_size=settings.population_size,
            storage=storage,
            study_name=study_name,
            initial=self.problem.initial,
        )

    def configuration(self) -> dict[str, Any]:
        """Return everything that decides what is computed, as JSON: not seed and data, nor how long to search."""
        return {
            **self.problem.configuration(),
            "space": self.settings.space,
            "objectives": [objective.to_json() for objective in self.formulation.objectives],
            "constraints": [str(constraint) for constraint in self.formulation.constraints],
            "sampler": self.settings.sampler,
            "population_size": self.settings.population_size,
        }

    def describe(self) -> list[str]:
        """Return what will be done, a line each."""
        goals = ", ".join(f"{objective.direction} {objective.name}" for objective in self.formulation.objectives)
        limits = "".join(f", {constraint}" for constraint in self.formulation.constraints)
        search = f"Search: {self.settings.sampler}, {self.num_evaluations:,} candidates, {goals}{limits}."
        return [*self.problem.describe(), search]

    def execute(self, strategy: OptunaStrategy, place: Place) -> ParetoArchive:
        """Search, or go on with it, write the front, and return what was found."""
        archive = self.problem.search(strategy, place)
        if len(self.formulation.objectives) > 1:
            place.run.write_front([objective.to_json() for objective in self.formulation.objectives])
        again = self.problem.remeasure(self.formulation)
        if again is not None:
            check_front(place.run, again, place.progress)
        place.run.update(status="done")
        write_report(place.run)
        return archive


def front_rows(archive: ParetoArchive) -> list[dict[str, Any]]:
    """Return the networks on the front with all their figures, ordered by the first objective, the best first."""
    formulation = archive.formulation
    solutions = sorted(archive.front, key=lambda solution: formulation.values(solution.evaluation.metrics)[0])
    return [
        {
            "arch_id": s.architecture.arch_id,
            "architecture": s.architecture.to_json(),
            "metrics": dict(s.evaluation.metrics),
        }
        for s in solutions
    ]


def reference_point(archive: ParetoArchive) -> dict[str, float] | None:
    """Return the worst value of each objective among all solutions, from where hypervolume counts; None if none is."""
    if not archive.solutions:
        return None
    worst_M = archive.values_NM.max(axis=0).tolist()
    objectives = archive.formulation.objectives
    return {objective.name: objective.sign * value for objective, value in zip(objectives, worst_M, strict=True)}


def why_infeasible(rows: Sequence[Mapping[str, Any]], constraints: Sequence[Constraint]) -> str:
    """Say why none of the candidates is feasible: how many break which limit, and how many have no figures.

    Args:
        rows: Evaluations of the search, as recorded.
        constraints: The limits.
    """
    evaluated = [row["metrics"] for row in rows if row["status"] != "failed" and row.get("metrics")]
    broken = {str(limit): sum(limit.violation(metrics) > 0 for metrics in evaluated) for limit in constraints}
    parts = [f"{count:,} break {limit}" for limit, count in sorted(broken.items(), key=lambda item: -item[1]) if count]
    if failed := len(rows) - len(evaluated):
        parts.append(f"{failed:,} failed")
    return f"None of {len(rows):,} candidates is feasible: {', '.join(parts) or 'none was evaluated'}."


def parse_objectives(minimize: Sequence[str], maximize: Sequence[str]) -> tuple[Objective, ...]:
    """Read names joined by commas; what is maximised, usually the quality, comes first."""
    objectives = []
    given: tuple[tuple[Direction, Sequence[str]], ...] = (("maximize", maximize), ("minimize", minimize))
    for direction, texts in given:
        names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
        objectives += [Objective(name=name, direction=direction) for name in names]
    return tuple(objectives)


def _rescaled(recipe: TrainingConfig, epochs: int) -> TrainingConfig:
    """Return a recipe of another length, whose rate falls as far."""
    if epochs < 1:
        raise ValueError(f"`epochs` must be at least 1, got {epochs}.")
    return replace(recipe, epochs=epochs, decay_epochs=recipe.decay_epochs * epochs / recipe.epochs)
