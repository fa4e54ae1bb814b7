"""How a sample is made from the best architecture so far: shrink some layers until a budget is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from nasray.architecture import Architecture, Choice
from nasray.spaces.space import SearchSpace

CostFunction = Callable[[Architecture], float]


class Shrinker:
    """Shrinks layers of an architecture step by step, one option of one choice at a time.

    A layer is the group of choices that share a name up to the last dot (`b03.depthwise.width` and
    `b03.depthwise.kernel`), so that shrinking it removes filters, reduces the kernel, or both.

    Args:
        space: The search space; options of a choice ascend.
        cost: What the budget limits. It is assumed to fall when a layer shrinks; where it does not (measured
            latency is noisy), more steps are taken, and the budget is met all the same.
    """

    def __init__(self, space: SearchSpace, cost: CostFunction) -> None:
        self.space = space
        self._cost = cost
        self._costs: dict[Architecture, float] = {}

    def cost(self, architecture: Architecture) -> float:
        """Return the cost, computed once per architecture."""
        if architecture not in self._costs:
            self._costs[architecture] = float(self._cost(architecture))
        return self._costs[architecture]

    @cached_property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the choices of each layer that has more than one option somewhere."""
        layers: dict[str, tuple[str, ...]] = {}
        for name, options in self.space.choices.items():
            if len(options) > 1:
                layer = name.rpartition(".")[0]
                layers[layer] = (*layers.get(layer, ()), name)
        return layers

    def shrinkable(self, architecture: Architecture) -> list[str]:
        """Return the layers that can still shrink."""
        return [layer for layer, names in self.layers.items() if self._steps(architecture, names)]

    def shrink(
        self, architecture: Architecture, layers: Sequence[str], budget: float, generator: np.random.Generator
    ) -> Architecture | None:
        """Shrink the given layers in random small steps until the cost is at most `budget`.

        The steps of all layers are shuffled and the fewest are taken that meet the budget, so that samples of one
        iteration come close to the same cost and differ in where it was saved.

        Returns:
            A canonical architecture within the budget, or None if these layers cannot save enough.
        """
        names = [name for layer in layers for name in self.layers[layer]]
        steps = self._steps(architecture, names)
        order = [steps[index] for index in generator.permutation(len(steps))]
        if self._cost_after(architecture, order) > budget:
            return None
        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            if self._cost_after(architecture, order[:middle]) <= budget:
                high = middle
            else:
                low = middle
        return self._after(architecture, order[:high])

    def _steps(self, architecture: Architecture, names: Sequence[str]) -> list[str]:
        """Return each choice's name once for every step that it can go down."""
        options = self.space.choices
        return [name for name in names for _ in range(options[name].index(architecture[name]))]

    def _after(self, architecture: Architecture, steps: Sequence[str]) -> Architecture:
        choices: dict[str, Choice] = dict(architecture.choices)
        for name in steps:
            options = self.space.choices[name]
            choices[name] = options[options.index(choices[name]) - 1]
        return self.space.canonical(choices)

    def _cost_after(self, architecture: Architecture, steps: Sequence[str]) -> float:
        return self.cost(self._after(architecture, steps))
