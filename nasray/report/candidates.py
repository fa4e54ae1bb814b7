"""A run's candidates as its report looks at them: which of them count, and which no other beats.

Legend: N candidates, M metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nasray.objectives import Constraint, Direction, Objective
from nasray.pareto import front_indices
from nasray.report.quantities import QUANTITIES

Values = npt.NDArray[np.float64]
Kind = Literal["ok", "infeasible", "failed"]

STAGE = "search"
_GAINS = ("accuracy", "area_under_curve")
"""Parts of the names of metrics of which more is better, where nothing says so."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What a search evaluated, in the order of its record.

    Args:
        rows: Evaluations of the search.
        objectives: What the run looked for; none if nothing tells.
        constraints: What a candidate has to meet.
    """

    rows: Sequence[Mapping[str, Any]]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of_run(
        cls, run: Mapping[str, Any], front: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
    ) -> Candidates:
        """Return the candidates of a run.

        Args:
            run: Content of its `run.json`.
            front: Content of its `front.json`, if it has one.
            rows: Its evaluations.
        """
        searched = [row for row in rows if row.get("stage", STAGE) == STAGE]
        return cls(rows=searched, objectives=_objectives(run, front, searched), constraints=_constraints(run))

    @cached_property
    def kinds(self) -> list[Kind]:
        """What became of each candidate; one that breaks a limit is infeasible."""
        return [self._kind(row) for row in self.rows]

    @cached_property
    def metrics(self) -> dict[str, Values]:
        """The (N,) values of each metric, objectives first; NaN where a candidate has none."""
        found = dict.fromkeys(name for row in self.rows for name in row.get("metrics") or {})
        first = [objective.name for objective in self.objectives if objective.name in found]
        names = dict.fromkeys([*first, *(name for name in QUANTITIES if name in found), *found])
        columns = {name: np.array([_number(row, name) for row in self.rows]) for name in names}
        return {name: values for name, values in columns.items() if np.isfinite(values).any()}

    def direction(self, name: str) -> Direction:
        """Return which way a metric is better; a guess from its name where it is no objective."""
        given = next((objective.direction for objective in self.objectives if objective.name == name), None)
        return given or ("maximize" if any(part in name for part in _GAINS) else "minimize")

    @property
    def measured(self) -> list[Objective]:
        """The objectives that any candidate has a value of."""
        return [objective for objective in self.objectives if objective.name in self.metrics]

    @property
    def shared(self) -> list[Objective]:
        """The objectives that every candidate that counts has; all that were measured if those are fewer than two.

        Searches for different costs measure different ones, and a front of all of them would leave candidates out.
        """
        num_ok = self.kinds.count("ok")
        every = [objective for objective in self.measured if len(self.complete([objective.name])) == num_ok]
        return every if len(every) > 1 else self.measured

    def complete(self, names: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the indices of the candidates that count and have all these metrics."""
        is_ok = np.array([kind == "ok" for kind in self.kinds], dtype=bool)
        for name in names:
            is_ok &= np.isfinite(self.metrics[name])
        return np.flatnonzero(is_ok)

    def minimized(self, names: Sequence[str], indices: npt.NDArray[np.intp]) -> Values:
        """Return (N, M) values of some candidates, each to be minimised."""
        signs_M = [-1.0 if self.direction(name) == "maximize" else 1.0 for name in names]
        return np.stack([self.metrics[name][indices] for name in names], axis=1) * signs_M

    def front(self, names: Sequence[str]) -> list[int]:
        """Return the indices of the candidates that no other dominates in these metrics, ordered by the first."""
        indices = self.complete(names)
        if not len(indices):
            return []
        chosen = indices[front_indices(self.minimized(names, indices))]
        return [int(index) for index in sorted(chosen, key=lambda index: self.metrics[names[0]][index])]

    def _kind(self, row: Mapping[str, Any]) -> Kind:
        if row.get("status") != "ok":
            return "infeasible" if row.get("status") == "infeasible" else "failed"
        return "infeasible" if self.broken(row) else "ok"

    def broken(self, row: Mapping[str, Any]) -> list[Constraint]:
        """Return the constraints that a candidate breaks, as far as its metrics tell."""
        metrics = row.get("metrics") or {}
        known = [limit for limit in self.constraints if metrics.get(limit.metric) is not None]
        return [limit for limit in known if limit.violation(metrics) > 0]


def _number(row: Mapping[str, Any], name: str) -> float:
    value = (row.get("metrics") or {}).get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _objectives(
    run: Mapping[str, Any], front: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> tuple[Objective, ...]:
    """Return what the run says that it looked for, with directions and ideals where it says them."""
    told = (run.get("front_objectives"), (front or {}).get("objectives"))
    stated = {row["name"]: row for rows in told for row in rows or ()}
    configured = (run.get("configuration") or {}).get("objectives")
    if isinstance(configured, list):
        stated |= {entry["name"]: entry for entry in configured if isinstance(entry, Mapping)}
        names = [entry["name"] if isinstance(entry, Mapping) else str(entry) for entry in configured]
        return tuple(_objective(name, stated.get(name, {}), rows) for name in dict.fromkeys(names))
    if not stated:
        found = {name for row in rows for name in row.get("metrics") or {}}
        stated = {name: {} for name in _USUAL if name in found}
    return tuple(_objective(name, row, rows) for name, row in stated.items())


_USUAL = ("accuracy", "macs", "parameters", "memory_bytes", "latency_ms", "energy_mj", "inference_time_s")
"""Metrics that a run without stated objectives is looked at for."""


def _objective(name: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Objective:
    is_gain = any(part in name for part in _GAINS)
    direction: Direction = row.get("direction") or ("maximize" if is_gain else "minimize")
    ideal = row.get("ideal")
    if ideal is None and "accuracy" in name and direction == "maximize":
        is_percent = any(_number(evaluation, name) > 1 for evaluation in rows)
        ideal = 100.0 if is_percent else 1.0
    return Objective(name=name, direction=direction, unit=str(row.get("unit") or ""), ideal=ideal)


def _constraints(run: Mapping[str, Any]) -> tuple[Constraint, ...]:
    texts = (run.get("configuration") or {}).get("constraints")
    return tuple(Constraint.parse(text) for text in texts) if isinstance(texts, list) else ()
