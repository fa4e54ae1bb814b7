"""Neural architecture search for accuracy and hardware cost, with the energy bill, on Ray Tune.

The names below are what most searches need; they are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nasray.architecture import Architecture

if TYPE_CHECKING:
    from nasray.carbon.budget import Budget
    from nasray.data import load_image_data
    from nasray.data.from_dataset import image_data
    from nasray.objectives import Constraint, Objective
    from nasray.spaces.cell import CellSpace
    from nasray.spaces.chain import ChainSpace
    from nasray.spaces.elastic_space import ElasticSpace, choice
    from nasray.tune.energy import EnergyCallback, HardwareCostCallback
    from nasray.tune.search_api import Training, search
    from nasray.tune.search_result import SearchResult
    from nasray.tune.strategy_searcher import StrategySearcher

__version__ = "0.1.0"

_HOMES = {
    "Budget": "nasray.carbon.budget",
    "CellSpace": "nasray.spaces.cell",
    "ChainSpace": "nasray.spaces.chain",
    "Constraint": "nasray.objectives",
    "ElasticSpace": "nasray.spaces.elastic_space",
    "EnergyCallback": "nasray.tune.energy",
    "HardwareCostCallback": "nasray.tune.energy",
    "Objective": "nasray.objectives",
    "SearchResult": "nasray.tune.search_result",
    "StrategySearcher": "nasray.tune.strategy_searcher",
    "Training": "nasray.tune.search_api",
    "choice": "nasray.spaces.elastic_space",
    "image_data": "nasray.data.from_dataset",
    "load_image_data": "nasray.data",
    "search": "nasray.tune.search_api",
}

__all__ = [
    "Architecture",
    "Budget",
    "CellSpace",
    "ChainSpace",
    "Constraint",
    "ElasticSpace",
    "EnergyCallback",
    "HardwareCostCallback",
    "Objective",
    "SearchResult",
    "StrategySearcher",
    "Training",
    "__version__",
    "choice",
    "image_data",
    "load_image_data",
    "search",
]


def __getattr__(name: str) -> Any:
    """Import a name of the package when it is first used, so that importing the package stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nasray' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
