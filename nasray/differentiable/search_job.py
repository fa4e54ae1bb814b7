"""A differentiable search in a form that can travel to another process."""

from __future__ import annotations

from dataclasses import dataclass

from nasray.data import ImageData
from nasray.differentiable.config import SearchConfig
from nasray.differentiable.expected_cost import CostTerm
from nasray.differentiable.search import DifferentiableSearch
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.jobs import Place


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """What a differentiable search is made of, before its network is built.

    Args:
        settings: Layout of the relaxed network.
        config: The recipe.
        cost: Expected cost to search for besides accuracy.
        seed: Of everything random.
    """

    settings: MultiScaleSettings
    config: SearchConfig
    cost: CostTerm | None = None
    seed: int = 0

    def start(self, data: ImageData, place: Place) -> DifferentiableSearch:
        """Build network, optimizers and data.

        Raises:
            ValueError: If there are several workers, which would need their gradients averaged.
        """
        if place.world_size != 1:
            raise ValueError(f"`place.world_size` must be 1 for a differentiable search, got {place.world_size}.")
        return DifferentiableSearch(
            self.settings,
            self.config,
            data,
            device=place.device,
            decode_threads=place.decode_threads,
            seed=self.seed,
            cost=self.cost,
        )
