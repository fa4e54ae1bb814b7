"""What a Pareto study can search, and how candidates of each kind of space get their figures."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.data import ImageData
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.models.build import NetworkSpace
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.records.files import digest
from nasray.search.candidate_search import CandidateSearch
from nasray.search.strategy import Trial
from nasray.spaces.space import SearchSpace
from nasray.spaces.tabular import TabularSpace
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import NetworkEvaluationConfig, NetworkEvaluator
from nasray.tune.batch_search import search_in_batches
from nasray.tune.candidate_search_run import run_search
from nasray.tune.progress import StageProgress
from nasray.tune.session import ClusterConfig, Workers, ray_session

ACCURACY = Objective(name="accuracy", direction="maximize", ideal=1.0)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study runs and what it shows.

    Args:
        run: Where to record.
        progress: What to show meanwhile.
        cluster: Which Ray.
        num_workers: Evaluators; None for one per GPU or processor.
    """

    run: RunDirectory
    progress: StageProgress
    cluster: ClusterConfig
    num_workers: int | None = None


class ParetoProblem(abc.ABC):
    """A search space, and figures for its architectures.

    `metrics` are the figures that an evaluation has; `objectives` what a study optimises and `num_evaluations` how many
    candidates it evaluates, unless it says otherwise; `initial` the architectures that it starts with.
    """

    space: SearchSpace
    metrics: Sequence[str]
    objectives: Sequence[Objective]
    num_evaluations: int
    initial: Sequence[Architecture] = ()

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
    def search(self, strategy: CandidateSearch, place: Place) -> ParetoArchive:
        """Carry the search out, or what is left of it, and return what was found."""

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


class TableProblem(ParetoProblem):
    """Architectures whose figures stand in a table: evaluation is a look-up, in this process.

    Args:
        path: Parquet or CSV file.
        architecture: Column of the architectures, or several joined by commas.
        metrics: Columns of figures to use.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or the table is refused.
    """

    def __init__(self, path: Path, architecture: str, metrics: Sequence[str]) -> None:
        self.space = self._table = TabularSpace.from_file(path, architecture=architecture, metrics=metrics)
        self.metrics, self.objectives, self.num_evaluations = self._table.metric_names, (), 1000

    def describe(self) -> list[str]:
        """Return the table's size."""
        return [f"Table: {self.space.name}, {len(self._table):,} architectures, figures: {', '.join(self.metrics)}."]

    def configuration(self) -> dict[str, Any]:
        """Return the table's name; its content is the data."""
        return {"table": self.space.name}

    def data(self) -> dict[str, Any]:
        """Return the table's size and the digest of what is used of it."""
        table = self._table
        content = [table.codes_NP.tolist(), *(table.column(name).tolist() for name in self.metrics)]
        return {"name": self.space.name, "num_architectures": len(table), "fingerprint": digest(content)}

    def search(self, strategy: CandidateSearch, place: Place) -> ParetoArchive:
        """Look up one candidate after the other."""
        return search_in_batches(strategy, self._look_up, run=place.run, progress=place.progress, batch_size=1)

    def _look_up(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        return [Evaluation(metrics=self._table.metrics(architecture)) for architecture in architectures]


class TrainedProblem(ParetoProblem):
    """Networks that are each trained from scratch, one Tune trial for each.

    Args:
        space: Cells or chains for the data's images.
        data: Data set.
        training: Recipe of each network.
        seed: Of weights and batches.
    """

    def __init__(self, space: NetworkSpace, data: ImageData, training: TrainingConfig, *, seed: int) -> None:
        self.space, self._networks, self._data = space, space, data
        self._config = NetworkEvaluationConfig(training=training, seed=seed)
        self.metrics = ("accuracy", "inference_time_s", "parameters", "macs")
        self.objectives = (ACCURACY, Objective(name="macs", unit="MACs"))
        self.num_evaluations = 40

    def describe(self) -> list[str]:
        """Return the data and the recipe."""
        data, recipe = self._data, self._config.training
        return [
            f"Data: {data.name}, {len(data.train):,} images to train on, {len(data.holdout):,} to compare on.",
            f"Candidates: {self.space.name}, each trained for {recipe.epochs} epochs at batch {recipe.batch_size}.",
        ]

    def configuration(self) -> dict[str, Any]:
        """Return the recipe."""
        return {"network": self.space.name, "evaluation": asdict(self._config)}

    def data(self) -> dict[str, Any]:
        """Return the description of the images."""
        return self._data.describe()

    def search(self, strategy: CandidateSearch, place: Place) -> ParetoArchive:
        """Train candidates on as many workers as there are; nobody waits for anybody."""
        with ray_session(place.cluster), place.progress.shown():
            workers, bar = Workers.available(place.num_workers), place.progress.bar("search", strategy.num_evaluations)

            def show(trial: Trial, evaluation: Evaluation) -> None:
                bar.move(
                    int(trial.trial_id) + 1,
                    f"last: {evaluation.status}, accuracy {evaluation.metrics.get('accuracy', 0):.1%}",
                )

            return run_search(
                strategy,
                partial(NetworkEvaluator, self._networks, self._data, self._config, workers.device),
                workers=workers,
                run=place.run,
                on_evaluation=show,
            )
