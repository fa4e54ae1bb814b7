"""What `nasray.search` returns: the front, its best networks, a table, a plot, an export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive, Solution
from nasray.data import Batches, ImageData
from nasray.formulations import Pareto
from nasray.models.export_files import ExportReport
from nasray.models.export_module import export_module
from nasray.objectives import Constraint, Objective
from nasray.reading import build
from nasray.records import RunDirectory
from nasray.training.evaluate import evaluate
from nasray.tune.problems.problem import Problem
from nasray.tune.problems.shared import SharedProblem
from nasray.tune.problems.trained import TrainedProblem
from nasray.tune.search_record import STAGE, recorded_evaluation

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class SearchResult:
    """What a search has found.

    Args:
        run: The run directory.
        archive: Evaluations that meet the constraints.
        problem: What was searched; None if only the record is known, which nothing can be exported from.
        data: Images that candidates were trained on; None where a function evaluated them.
    """

    def __init__(
        self,
        run: RunDirectory,
        archive: ParetoArchive,
        problem: Problem | None = None,
        data: ImageData | None = None,
    ) -> None:
        self.run, self.archive, self._problem, self._data = run, archive, problem, data

    @classmethod
    def open(cls, run_dir: str | Path) -> SearchResult:
        """Return what a run found so far, of whatever was recorded: also one that goes on, failed or was interrupted.

        Args:
            run_dir: Folder of a run of `nasray.search`, or of a program whose record holds its objectives.

        Raises:
            ValueError: If there is no run, its records are damaged, or it has no objectives.
        """
        run = RunDirectory.open(Path(run_dir))
        configuration = run.run.get("configuration") or {}
        asked = configuration.get("objectives") or []
        # What a search was asked for has the ideals, too, but programs may record names alone.
        is_whole = bool(asked) and all(isinstance(objective, dict) for objective in asked)
        wanted = asked if is_whole else run.run.get("front_objectives")
        rows = run.evaluations()
        if not wanted or not all("architecture" in row for row in rows):
            raise ValueError(f"`run_dir` must be a run whose record has objectives and architectures, got {run.path}.")
        objectives = build(list[Objective], wanted)
        limits = [Constraint.parse(text) for text in build(list[str], configuration.get("constraints") or [])]
        archive = ParetoArchive(formulation := Pareto(objectives, limits))
        for row in (row for row in rows if row.get("stage") == STAGE):
            evaluation = recorded_evaluation(row)
            # Searches for several costs may record for each candidate that of its own search alone.
            if evaluation.status != "ok" or set(formulation.metrics) <= set(evaluation.metrics):
                archive.add(str(row["trial_id"]), Architecture.from_json(row["architecture"]), evaluation)
        return cls(run, archive)

    @property
    def path(self) -> Path:
        """The run directory, with `report.html`."""
        return self.run.path

    @property
    def front(self) -> list[Solution]:
        """The networks that no other is better than in everything, the best in the first objective first."""
        values = self.archive.formulation.values
        return sorted(self.archive.front, key=lambda solution: float(values(solution.evaluation.metrics)[0]))

    def best(self, **weights: float) -> Solution:
        """Return the best trade-off; see `ParetoArchive.best_trade_off`.

        Args:
            weights: By objective, 1 for those that are left out: `best(accuracy=100)` cares for accuracy first.

        Raises:
            ValueError: If nothing was found, or a weight is of no objective.
        """
        names = [objective.name for objective in self.archive.formulation.objectives]
        if unknown := sorted(set(weights) - set(names)):
            raise ValueError(f"Weights must be of objectives ({', '.join(names)}), got {unknown[0]!r}.")
        return self.archive.best_trade_off([weights.get(name, 1.0) for name in names])

    def to_dataframe(self) -> pd.DataFrame:
        """Return every evaluation as a row: id, status, reason, seconds, `is_on_front`, metrics, choices.

        A choice that is called like a metric is left out; `run.evaluations()` has it.
        """
        import pandas as pd

        front = {solution.architecture.arch_id for solution in self.archive.front}
        rows = self.run.evaluations()
        metrics = dict.fromkeys(name for row in rows for name in row["metrics"])
        return pd.DataFrame(
            {
                **{key: row.get(key) for key in ("arch_id", "status", "reason", "seconds")},
                "is_on_front": row["arch_id"] in front,
                **{name: row["metrics"].get(name) for name in metrics},
                **{name: value for name, value in row["architecture"]["choices"].items() if name not in metrics},
            }
            for row in rows
        )

    def plot(self, x: str | None = None, y: str | None = None) -> go.Figure:
        """Return a plotly figure of two metrics with the front; `.show()` or `.write_html(path)` it.

        Args:
            x: By default the second objective.
            y: By default the first one.

        Raises:
            ValueError: If no evaluation has both, or none meets the constraints.
        """
        import plotly.graph_objects as go

        if not self.archive.solutions:
            raise ValueError(
                f"`plot` needs an evaluation that is ok and meets the constraints, got none of "
                f"{self.archive.num_evaluations}. `to_dataframe()` says why."
            )
        names = [objective.name for objective in self.archive.formulation.objectives]
        x, y = x or names[-1], y or names[0]
        figure = go.Figure(layout={"xaxis": {"title": x}, "yaxis": {"title": y}, "template": "plotly_white"})
        groups = (("evaluated", self.archive.solutions, "circle-open"), ("front", self.front, "diamond"))
        for name, solutions, symbol in groups:
            drawn = [s for s in solutions if x in s.evaluation.metrics and y in s.evaluation.metrics]
            if not drawn:
                raise ValueError(f"`x` and `y` must be metrics of the evaluations, got {x!r} and {y!r}.")
            figure.add_scatter(
                x=[s.evaluation.metrics[x] for s in drawn],
                y=[s.evaluation.metrics[y] for s in drawn],
                text=[s.architecture.arch_id for s in drawn],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 9},
            )
        return figure

    def export(
        self, network: Solution | Architecture | None = None, folder: str | Path | None = None, *, onnx: bool = True
    ) -> ExportReport:
        """Train a network once more, as in the search, and write it as .pt2, ONNX and safetensors.

        Args:
            network: Which; by default `best()`.
            folder: Where to; by default in the run directory, under `models/<arch_id>`.
            onnx: Whether to write ONNX too; needs `nasray[export]`.

        Raises:
            ValueError: If candidates were evaluated by a function, which says nothing of how to train.
        """
        if not isinstance(self._problem, TrainedProblem) or self._data is None:
            raise ValueError(
                "`export` needs a search whose evaluator is a Training: a function's networks are its own. "
                f"Of a run that was opened, `nasray export {self.path} ARCH --output DIR`."
            )
        chosen = self.best() if network is None else network
        architecture = chosen.architecture if isinstance(chosen, Solution) else chosen
        few = self._data.test.subset(torch.arange(min(8, len(self._data.test))))
        images_BCHW = next(iter(Batches(few, self._data, batch_size=8, num_workers=1)))[0]
        trained = self._problem.trained(architecture)
        return export_module(
            trained,
            architecture,
            Path(folder) if folder else self.run.model_directory(architecture.arch_id),
            example_BCHW=images_BCHW,
            card=self._card(architecture, trained),
            onnx=onnx,
        )

    def _card(self, architecture: Architecture, trained: nn.Module) -> dict[str, Any]:
        assert self._data is not None
        known = [s for s in self.archive.solutions if s.architecture == architecture]
        metrics: dict[str, float] = dict(known[0].evaluation.metrics) if known else {}
        if isinstance(self._problem, SharedProblem):
            # The search judged the network by its part of the shared weights; it was trained further since.
            device = str(next(trained.parameters()).device)
            batches = Batches(self._data.holdout, self._data, batch_size=256, device=device, num_workers=1)
            found = {f"{name} in the search, with shared weights": value for name, value in metrics.items()}
            metrics = {"accuracy": evaluate(trained, batches)["accuracy"], **found}
        return {
            "Data": self._data.name,
            "Input": f"batch x {self._data.channels} x {self._data.resolution} x {self._data.resolution}",
            "Pixels": self._data.pixel_formula,
            **metrics,
        }

    def __repr__(self) -> str:
        found = f"{len(self.archive.front)} on the front of {self.archive.num_evaluations} evaluations"
        return f"SearchResult({found}, report: {self.path / 'report.html'})"
