"""Search space of mobile networks: the width and kernel of every layer, depth by width 0."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from nasray.architecture import Architecture, Choice
from nasray.spaces.network_plan import NetworkPlan, plan_network
from nasray.spaces.network_spec import LayerSpec, NetworkSpec
from nasray.spaces.space import SearchSpace


class MobileSpace(SearchSpace):
    """All sub-networks of an initial network that keep the first filters and the centre of the kernels.

    Choices are `block.layer.width` (uniformly spaced from 0 to the full width) and, for kernels over 3,
    `block.layer.kernel` (odd, from 3 to the full one). A layer of width 0 is a removed layer.

    Source: Yang et al. 2021, Sec. 2.1 and appendix A.1. Deviation: none.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.name = spec.name

    @cached_property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Options of each layer's width and kernel, in ascending order."""
        choices: dict[str, tuple[Choice, ...]] = {}
        for name, layer in self.spec.layers():
            if not layer.is_elastic or layer.kind in ("pool", "linear"):
                continue
            choices[f"{name}.width"] = self.widths(layer)
            if layer.kernel > 3:
                choices[f"{name}.kernel"] = tuple(range(3, layer.kernel + 1, 2))
        return choices

    def widths(self, layer: LayerSpec) -> tuple[int, ...]:
        """Uniformly spaced widths of a layer, from 0 to the full one."""
        steps = self.spec.num_widths - 1
        return tuple(sorted({round(layer.filters * step / steps) for step in range(steps + 1)}))

    def canonical(self, choices: Mapping[str, Choice]) -> Architecture:
        """Return the one architecture that stands for these choices.

        A depthwise layer cannot have more filters than channels arrive: its width becomes the smallest option that
        uses them all. The kernel of a removed layer becomes the smallest one.
        """
        checked = dict(super().canonical(choices).choices)
        for block in self._plan(checked).blocks:
            if block.is_removed:
                kernels = (f"{block.spec.name}.{layer.name}.kernel" for layer in block.spec.layers)
                checked.update({name: 3 for name in kernels if name in checked})
            for layer in block.layers:
                width, kernel = f"{layer.name}.width", f"{layer.name}.kernel"
                if layer.spec.kind == "depthwise" and width in checked:
                    checked[width] = min(option for option in self.widths(layer.spec) if option >= layer.filters)
                if layer.filters == 0 and kernel in checked:
                    checked[kernel] = 3
        return Architecture.of(self.name, checked)

    def plan(self, architecture: Architecture) -> NetworkPlan:
        """Return the concrete network of an architecture of this space."""
        if architecture.space != self.name:
            raise ValueError(f"`architecture` must belong to space {self.name!r}, got {architecture.space!r}.")
        return self._plan(architecture.choices)

    def _plan(self, choices: Mapping[str, Choice]) -> NetworkPlan:
        return plan_network(
            self.spec,
            width=lambda name, layer: int(choices.get(f"{name}.width", layer.filters)),
            kernel=lambda name, layer: int(choices.get(f"{name}.kernel", layer.kernel)),
        )
