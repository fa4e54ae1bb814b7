"""An architecture as numbers for a cost predictor: sums over its operations, and its choices.

Array letters: N architectures, F features.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.hardware.operations import Operation, Plan, operations
from nasray.spaces.cell_forms import cell_index, cell_operations, representatives
from nasray.spaces.cell_plan import CellPlan
from nasray.spaces.space import SearchSpace

Array = npt.NDArray[np.float64]

_MAX_OPTIONS = 12
"""A choice with more options than this is described by its numbers only."""
_LARGEST_KERNEL = 9
"""Longer ones are those of global pools."""


class _Planned(Protocol):
    def plan(self, architecture: Architecture) -> Plan:
        """Return the concrete network."""


def plan_features(plan: Plan) -> dict[str, float]:
    """Return sums over the operations of a network: in all, by kind and kernel, and by kind and resolution.

    Summed are multiply-adds, elements read and written, weights, and the number of operations. Resolutions are
    taken in powers of two, so that a size that was never seen falls among its neighbours. A cell also gives the sums
    without the edges that make no difference, as some runtimes leave them out and others compute them.
    """
    if isinstance(plan, CellPlan):
        return dict(_cell_features(plan))
    return _sums(plan)


def choice_features(space: SearchSpace, architecture: Architecture) -> dict[str, float]:
    """Return the choices: 1 for the option of a choice with few options, and how far a number is above the least."""
    features: dict[str, float] = {}
    for name, options in space.choices.items():
        value = architecture[name]
        if len(options) <= _MAX_OPTIONS:
            features[f"{name} = {value}"] = 1.0
        if all(isinstance(option, int | float) and not isinstance(option, bool) for option in options):
            features[name] = float(value) - float(options[0])
    return features


def features(space: SearchSpace, architecture: Architecture) -> dict[str, float]:
    """Return the features of an architecture by name: of its plan, or of its choices in a space without plans.

    Choices on top of a plan make predictions from a few hundred measurements worse, as they are many.

    Raises:
        ValueError: If the architecture is of another space.
    """
    if architecture.space != space.name:
        raise ValueError(f"`architecture` must belong to space {space.name!r}, got {architecture.space!r}.")
    if hasattr(space, "plan"):
        return plan_features(cast(_Planned, space).plan(architecture))
    return choice_features(space, architecture)


def feature_matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    """Return (N, F) features in the order of `names`."""
    return np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=float).reshape(-1, len(names))


def space_digest(space: SearchSpace) -> str:
    """Return 16 hexadecimal digits that spaces share if they have the same name, choices and networks.

    Two spaces may have one name and differ in what their networks cost, as cells at two resolutions; the smallest
    and the largest network tell them apart.
    """
    ends = [features(space, end) for end in (space.smallest(), space.largest())]
    described = [space.name, {name: list(options) for name, options in space.choices.items()}, ends]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1 << 14)
def _cell_features(plan: CellPlan) -> Mapping[str, float]:
    """There are but 15,625 cells, and a search or a fit asks for the same ones again and again."""
    index = int(representatives()[cell_index(plan.operations)])
    kept = _sums(replace(plan, operations=cell_operations(index)))
    # Names are shared among all cells to save memory.
    return _sums(plan) | {sys.intern(f"kept {name}"): value for name, value in kept.items()}


def _sums(plan: Plan) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for operation in operations(plan):
        for group in ("all", _by_kernel(operation), _by_size(operation)):
            for what in ("macs", "elements", "weights"):
                sums[sys.intern(f"{group} {what}")] += getattr(operation, what)
            sums[sys.intern(f"{group} count")] += 1
    return dict(sums)


def _by_kernel(operation: Operation) -> str:
    """Take kernels by their longer side, odd ones together with the even ones below, as rectangles are many."""
    side = max(operation.kernel) // 2 * 2 + 1
    return f"{operation.kind} {f'kernel {side}' if side <= _LARGEST_KERNEL else 'over all'}"


def _by_size(operation: Operation) -> str:
    return f"{operation.kind} at {1 << (max(operation.out_size) - 1).bit_length()}"
