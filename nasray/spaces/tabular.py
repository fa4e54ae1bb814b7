"""A table of architectures and their figures as a search space, so that a search is a look-up.

Array letters: N architectures, P choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture, Choice
from nasray.spaces.space import SearchSpace
from nasray.spaces.table_architectures import encode_rows, read_rows
from nasray.spaces.table_columns import architecture_columns, closest, complete_metrics, read_figures, read_table

if TYPE_CHECKING:
    import pandas as pd

Duplicates = Literal["error", "first", "mean"]
"""What to do with an architecture that a table lists several times with different figures."""


class TabularSpace(SearchSpace):
    """The architectures that a table lists, each with its figures.

    Options are sorted, but a table does not tell which of them are cheap: a method that shrinks networks by the
    order of their options has no meaning here, unless the options are numbers such as widths.

    Rows with a missing or infinite figure are dropped (`num_dropped`, of `num_rows`; `gaps` says how many rows lack
    which metric), then repeated architectures are merged (`num_merged`).

    Args:
        table: The table.
        architecture: Column of the architectures: text whose tokens stand between `|`, `+`, `,`, `;` or white
            space, JSON text, mappings or lists. Several columns, joined by commas, give one choice each.
        metrics: Columns of figures. `None` takes every numeric column without gaps.
        name: Name of the space. Spaces of different tables need different names.
        duplicates: An architecture that is listed again with the same figures is one. With other figures, "error"
            refuses the table, "first" keeps the first row and "mean" the average over the rows.

    Raises:
        ValueError: If a column is missing or of the wrong kind, or no row is left.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        architecture: str,
        metrics: Sequence[str] | None = None,
        name: str = "tabular",
        duplicates: Duplicates = "error",
    ) -> None:
        if duplicates not in get_args(Duplicates):
            raise ValueError(f"`duplicates` must be one of {', '.join(get_args(Duplicates))}, got {duplicates!r}.")
        self.name = Architecture.of(name, {}).space
        columns = architecture_columns(architecture, table)
        chosen = complete_metrics(table, columns) if metrics is None else tuple(metrics)
        if not (len(table) and chosen):
            found = f"{len(table)} rows and {len(chosen)} metrics"
            raise ValueError(f"The table of {name!r} must have a row and a numeric column without gaps, got {found}.")
        figures_NM = np.stack([read_figures(table, metric) for metric in chosen], axis=1)
        is_complete_N: npt.NDArray[np.bool_] = np.all(np.isfinite(figures_NM), axis=1)
        self.num_rows, self.num_dropped = len(table), len(table) - int(is_complete_N.sum())
        lacking_M = len(table) - np.isfinite(figures_NM).sum(axis=0)
        self.gaps = {metric: count for metric, count in zip(chosen, lacking_M.tolist(), strict=True) if count}
        if self.num_dropped == len(table):
            raise ValueError(f"The table of {name!r} must have a row with all of {', '.join(chosen)}, got none.")
        rows = [row for row, keep in zip(read_rows(table, columns), is_complete_N.tolist(), strict=True) if keep]
        self._choices, codes_NP = encode_rows(rows)
        kept_N, figures_NM = _merge(codes_NP, figures_NM[is_complete_N], chosen, duplicates)
        self.num_merged = len(rows) - len(kept_N)
        self._codes_PN = np.ascontiguousarray(codes_NP[kept_N].T)
        self._codes_PN.setflags(write=False)
        figures_MN = np.ascontiguousarray(figures_NM.T)
        figures_MN.setflags(write=False)
        self._columns = dict(zip(chosen, figures_MN, strict=True))
        self._code_of = {key: {option: code for code, option in enumerate(row)} for key, row in self._choices.items()}
        self._row_of = {codes: row for row, codes in enumerate(map(tuple, self.codes_NP.tolist()))}

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        architecture: str,
        metrics: Sequence[str] | None = None,
        name: str | None = None,
        duplicates: Duplicates = "error",
    ) -> Self:
        """Read a parquet or CSV file; the space is named like the file if no name is given.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read, or the table is refused.
        """
        path = Path(path)
        table = read_table(path, architecture)
        name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:64] or "tabular"
        return cls(table, architecture=architecture, metrics=metrics, name=name, duplicates=duplicates)

    @property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Options of each choice: numbers in ascending order, or text; an entry that is absent ("") first."""
        return self._choices

    @property
    def codes_NP(self) -> npt.NDArray[np.int32]:
        """Index of every architecture's option of every choice, in the order of `choices`; read only."""
        return self._codes_PN.T

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The columns of figures."""
        return tuple(self._columns)

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """All architectures in the order of the table."""
        return tuple(self._architecture(row) for row in range(len(self)))

    def __len__(self) -> int:
        return len(self._row_of)

    def canonical(self, choices: Mapping[str, Choice]) -> Architecture:
        """Return the architecture of the table with these choices, or else the one with the fewest other choices.

        A combination that the table does not list is repaired so: the listed architecture at the smallest Hamming
        distance stands for it, the first one of several.
        """
        codes = self._encode(choices)
        row = self._row_of.get(codes)
        return self._architecture(self._nearest(codes) if row is None else row)

    def random(self, generator: np.random.Generator) -> Architecture:
        """Draw every choice uniformly, and take the nearest architecture of the table.

        Rows that stand for many combinations (in NAS-Bench-201 the small cells, which have most spellings) come up
        more often than others, as they do when the space itself is sampled.
        """
        return super().random(generator)

    def enumerate(self, limit: int) -> Sequence[Architecture] | None:
        """Return all architectures in the order of the table; None if there are more than the limit."""
        return self.architectures if len(self) <= limit else None

    def index(self, architecture: Architecture) -> int:
        """Return where an architecture stands in `architectures`.

        Raises:
            ValueError: If the table does not list it.
        """
        if architecture.space == self.name and architecture.choices.keys() == self._code_of.keys():
            row = self._row_of.get(tuple(self._code_of[name].get(value, -1) for name, value in architecture.items))
            if row is not None:
                return row
        raise ValueError(
            f"`architecture` must be listed in the table of {self.name!r}, got {architecture.arch_id} of "
            f"{architecture.space!r}. `canonical` gives the nearest one."
        )

    def metrics(self, architecture: Architecture) -> dict[str, float]:
        """Return the figures of an architecture of the table, by the name of their column."""
        row = self.index(architecture)
        return {metric: float(column_N[row]) for metric, column_N in self._columns.items()}

    def column(self, metric: str) -> npt.NDArray[np.float64]:
        """Return one figure of all architectures, (N,), in their order; read only.

        Raises:
            ValueError: If there is no such metric.
        """
        if metric not in self._columns:
            raise ValueError(f"`metric` must be one of {closest(metric, self._columns)}, got {metric!r}.")
        column_N: npt.NDArray[np.float64] = self._columns[metric]
        return column_N

    def _architecture(self, row: int) -> Architecture:
        codes = self._codes_PN[:, row].tolist()
        return Architecture(
            self.name,
            tuple((name, options[code]) for (name, options), code in zip(self._choices.items(), codes, strict=True)),
        )

    def _encode(self, choices: Mapping[str, Choice]) -> tuple[int, ...]:
        if unknown := sorted(set(choices) ^ set(self._choices)):
            raise ValueError(f"An architecture of {self.name} must name each of its choices, mismatch: {unknown[:3]}.")
        for name, code_of in self._code_of.items():
            if choices[name] not in code_of:
                raise ValueError(f"`{name}` must be one of {closest(choices[name], code_of)}, got {choices[name]!r}.")
        return tuple(code_of[choices[name]] for name, code_of in self._code_of.items())

    def _nearest(self, codes: tuple[int, ...]) -> int:
        distance_N = np.zeros(len(self), dtype=np.uint16)
        for codes_N, code in zip(self._codes_PN, codes, strict=True):
            distance_N += codes_N != code
        return int(distance_N.argmin())


def _merge(
    codes_NP: npt.NDArray[np.int32], figures_NM: npt.NDArray[np.float64], metrics: Sequence[str], how: Duplicates
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the first row of every architecture, in order, and its figures."""
    first_of: dict[tuple[int, ...], int] = {}
    first_N = np.array([first_of.setdefault(codes, row) for row, codes in enumerate(map(tuple, codes_NP.tolist()))])
    kept_K, group_N = np.unique(first_N, return_inverse=True)
    differs_NM = figures_NM != figures_NM[first_N]
    if how == "error" and differs_NM.any():
        row, column = (int(place) for place in np.argwhere(differs_NM)[0])
        raise ValueError(
            f"Every architecture must have one {metrics[column]}, got {figures_NM[first_N[row], column]} and "
            f"{figures_NM[row, column]} for one of them. Set `duplicates` to first or mean, or use fewer metrics."
        )
    if how == "mean" and differs_NM.any():
        sums_KM = np.zeros((len(kept_K), figures_NM.shape[1]))
        np.add.at(sums_KM, group_N, figures_NM)
        return kept_K, sums_KM / np.bincount(group_N)[:, None]
    return kept_K, figures_NM[kept_K]
