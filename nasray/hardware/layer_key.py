"""What decides how long a layer takes: the key of the latency lookup table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_plan import LayerPlan, NetworkPlan
from nasray.spaces.network_spec import BlockSpec, LayerSpec


class LayerKey(NamedTuple):
    """Configuration of a layer, without its name: equal layers of a network, or of two, share one key.

    Args:
        kind: Kind of a layer, or "residual" for the addition at the end of a block.
        in_channels: C; of a residual addition, the channels of the block's input.
        filters: M; of a residual addition, the channels of the branch.
        bypass_end: Input channels from `filters` up to this one are bypassed; 0 where none are.
        kernel: Side of the kernel; 1 where nothing is convolved.
        stride: Spatial stride.
        in_size: Side of the input in pixels.
        activation: Activation; "none" where nothing is convolved.
        has_batch_norm: Whether batch norm follows.
    """

    kind: str
    in_channels: int
    filters: int
    bypass_end: int = 0
    kernel: int = 1
    stride: int = 1
    in_size: int = 1
    activation: str = "none"
    has_batch_norm: bool = False

    def plan(self) -> LayerPlan:
        """Return a layer of this configuration (not of a residual addition)."""
        spec = LayerSpec(
            name="layer",
            kind=self.kind,  # type: ignore[arg-type]
            filters=self.filters,
            kernel=self.kernel,
            stride=self.stride,
            bypass_limit=self.bypass_end,
            activation=self.activation,  # type: ignore[arg-type]
            has_batch_norm=self.has_batch_norm,
        )
        return LayerPlan(
            spec=spec,
            name="layer",
            in_channels=self.in_channels,
            filters=self.filters,
            kernel=self.kernel,
            in_size=self.in_size,
        )


def network_keys(plan: NetworkPlan) -> Iterator[LayerKey]:
    """Yield the keys of a network's layers and residual additions; what stands twice is yielded twice."""
    for block in plan.blocks:
        for layer in block.layers:
            yield _layer_key(layer)
        if block.spec.has_residual and block.layers:
            last = block.layers[-1]
            yield LayerKey("residual", block.in_channels, last.out_channels, in_size=last.out_size)


def required_keys(space: MobileSpace) -> list[LayerKey]:
    """Return every key that a network of a space can need, sorted.

    The set of channel counts that can arrive is propagated from layer to layer, so the work grows with the number
    of layers and not with the number of architectures.
    """
    keys: set[LayerKey] = set()
    channels, size = {space.spec.in_channels}, space.spec.resolution
    for block in space.spec.blocks:
        channels, size = _block_keys(space, block, channels, size, keys)
    return sorted(keys)


class _Path(NamedTuple):
    """A way into the middle of a block: channels at its entry, channels now, and whether every layer had width 0."""

    entry: int
    channels: int
    is_empty: bool


def _block_keys(
    space: MobileSpace, block: BlockSpec, channels: set[int], size: int, keys: set[LayerKey]
) -> tuple[set[int], int]:
    """Add the keys of a block; return the channel counts that can leave it, and the size in pixels."""
    paths = {_Path(count, count, True) for count in channels}
    convolutions = [layer.name for layer in block.layers if layer.kind in ("conv", "depthwise")]
    for layer in block.layers:
        may_stay_empty = not (block.has_residual and layer.name == convolutions[-1])
        plans = {
            path: [
                plan
                for plan in _reachable_plans(space, f"{block.name}.{layer.name}", layer, path.channels, size)
                if plan.filters or may_stay_empty or not path.is_empty
            ]
            for path in paths
        }
        keys.update(_layer_key(plan) for group in plans.values() for plan in group)
        paths = {
            _Path(path.entry, plan.out_channels, path.is_empty and not _convolves(plan))
            for path, group in plans.items()
            for plan in group
        }
        size = -(-size // layer.stride) if layer.kind != "pool" else 1
    if not block.has_residual:
        return {path.channels for path in paths}, size
    keys.update(LayerKey("residual", path.entry, path.channels, in_size=size) for path in paths)
    return channels | {max(path.entry, path.channels) for path in paths}, size


def _reachable_plans(space: MobileSpace, name: str, layer: LayerSpec, channels: int, size: int) -> list[LayerPlan]:
    """Return every width and kernel of a layer at which `channels` arrive."""
    widths = [int(width) for width in space.choices.get(f"{name}.width", (layer.filters,))]
    if layer.kind == "depthwise":
        widths = sorted({min(width, channels) for width in widths})
    kernels = [int(kernel) for kernel in space.choices.get(f"{name}.kernel", (layer.kernel,))]
    return [
        LayerPlan(spec=layer, name=name, in_channels=channels, filters=width, kernel=kernel, in_size=size)
        for width in widths
        for kernel in kernels
    ]


def _layer_key(plan: LayerPlan) -> LayerKey:
    spec, bypass_end = plan.spec, plan.filters + plan.bypassed_channels if plan.bypassed_channels else 0
    if not _convolves(plan):
        if spec.kind in ("conv", "depthwise"):
            return LayerKey("conv", plan.in_channels, 0, bypass_end, stride=spec.stride, in_size=plan.in_size)
        return LayerKey(spec.kind, plan.in_channels, plan.filters, in_size=plan.in_size, activation=spec.activation)
    return LayerKey(
        spec.kind,
        plan.in_channels,
        plan.filters,
        bypass_end,
        plan.kernel,
        spec.stride,
        plan.in_size,
        spec.activation,
        spec.has_batch_norm,
    )


def _convolves(plan: LayerPlan) -> bool:
    return plan.filters > 0 and plan.spec.kind in ("conv", "depthwise")
