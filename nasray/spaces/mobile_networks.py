"""Initial networks of the mobile family, and the published ones that can be built from the same layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nasray.spaces.mobile import MobileSpace
from nasray.spaces.network_spec import Activation, BlockSpec, LayerSpec, NetworkSpec


@dataclass(frozen=True)
class MobileBlock:
    """One row of a table of inverted-residual blocks.

    Args:
        limit: T of the two pointwise layers; a depthwise layer's is infinite.
        kernel: Full kernel of the depthwise layer.
        stride: Its stride.
        activation: After expansion and depthwise layer.
        expansion: Filters of the expansion; `None` leaves the layer out.
        out: Filters of the projection.
        squeeze: Bottleneck width of squeeze-and-excitation, 0 for none.
    """

    limit: int
    kernel: int
    stride: int
    activation: Activation
    expansion: int | None
    out: int
    squeeze: int

    def block(self, name: str, depthwise_filters: int) -> BlockSpec:
        """Return the block; residual where the stride is 1 (Tables 8 and 9, caption)."""
        depthwise = LayerSpec(
            name="depthwise",
            kind="depthwise",
            filters=self.expansion or depthwise_filters,
            kernel=self.kernel,
            stride=self.stride,
            bypass_limit=None,
            activation=self.activation,
        )
        project = LayerSpec(name="project", kind="conv", filters=self.out, bypass_limit=self.limit)
        layers = [depthwise, project]
        if self.expansion is not None:
            layers.insert(0, replace(project, name="expand", filters=self.expansion, activation=self.activation))
        if self.squeeze:
            layers.insert(-1, squeeze_excite(self.squeeze))
        return BlockSpec(name=name, layers=tuple(layers), has_residual=self.stride == 1)


def squeeze_excite(width: int, *, activation: Activation = "relu") -> LayerSpec:
    """Return a squeeze-and-excitation layer; its bottleneck is not searched (constant in Tables 8 and 9)."""
    return LayerSpec(
        name="squeeze_excite",
        kind="squeeze_excite",
        filters=width,
        activation=activation,
        has_batch_norm=False,
        is_elastic=False,
    )


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of a MobileNetV3: pointwise layer, average pool, another without batch norm, classifier.

    Args:
        features: Filters before the pool.
        limit: T of that layer.
        hidden: Filters after the pool.
        hidden_limit: T of that layer.
        num_classes: Outputs of the classifier.
    """

    features: int
    limit: int
    hidden: int
    hidden_limit: int
    num_classes: int

    def blocks(self) -> tuple[BlockSpec, ...]:
        """Return the blocks."""
        pointwise = LayerSpec(
            name="conv", kind="conv", filters=self.features, bypass_limit=self.limit, activation="hard_swish"
        )
        inner = replace(pointwise, filters=self.hidden, bypass_limit=self.hidden_limit, has_batch_norm=False)
        return (
            BlockSpec(name="features", layers=(pointwise,)),
            pool_block(),
            BlockSpec(name="hidden", layers=(inner,)),
            classifier_block(self.num_classes, 0.2),
        )


def pool_block() -> BlockSpec:
    """Return the global average pool."""
    return BlockSpec(name="pool", layers=(LayerSpec(name="average", kind="pool", has_batch_norm=False),))


def classifier_block(num_classes: int, dropout: float) -> BlockSpec:
    """Return the linear classifier; its width is the number of classes."""
    linear = LayerSpec(
        name="linear", kind="linear", filters=num_classes, has_batch_norm=False, is_elastic=False, dropout=dropout
    )
    return BlockSpec(name="classifier", layers=(linear,))


def stem_block(*, filters: int, stride: int, limit: int, activation: Activation) -> BlockSpec:
    """Return the first convolution, 3x3."""
    stem = LayerSpec(
        name="conv", kind="conv", filters=filters, kernel=3, stride=stride, bypass_limit=limit, activation=activation
    )
    return BlockSpec(name="stem", layers=(stem,))


# MobileNetV3-Large with every width rounded up to a power of 2, depthwise kernels enlarged by 2, one more block at
# 28x28 (b08) and one more at 14x14 (b15). T by resolution, and which blocks squeeze, as in Tables 8 and 9; the 256
# of b13 is the tables' too, where a quarter of its expansion would be 128.
# Source: Yang et al. 2021, appendix A.1, B and Table 8.
_LATENCY_GUIDED = (
    MobileBlock(8, 5, 1, "relu", 16, 16, 0),
    MobileBlock(16, 5, 2, "relu", 64, 32, 16),
    MobileBlock(16, 5, 1, "relu", 128, 32, 0),
    MobileBlock(32, 7, 2, "relu", 128, 64, 32),
    MobileBlock(32, 7, 1, "relu", 128, 64, 32),
    MobileBlock(32, 7, 1, "relu", 128, 64, 32),
    MobileBlock(32, 7, 1, "relu", 128, 64, 32),
    MobileBlock(64, 5, 2, "hard_swish", 256, 128, 64),
    MobileBlock(64, 5, 1, "hard_swish", 256, 128, 0),
    MobileBlock(64, 5, 1, "hard_swish", 256, 128, 64),
    MobileBlock(64, 5, 1, "hard_swish", 256, 128, 64),
    MobileBlock(64, 5, 1, "hard_swish", 512, 128, 256),
    MobileBlock(64, 5, 1, "hard_swish", 1024, 128, 256),
    MobileBlock(64, 5, 1, "hard_swish", 1024, 128, 256),
    MobileBlock(128, 7, 2, "hard_swish", 1024, 256, 256),
    MobileBlock(128, 7, 1, "hard_swish", 1024, 256, 256),
    MobileBlock(128, 7, 1, "hard_swish", 1024, 256, 256),
)


def netadaptv2_latency(num_classes: int = 1000, in_channels: int = 3, resolution: int = 224) -> NetworkSpec:
    """Initial network of the latency-guided search: MobileNetV3-Large widened, 9 widths per layer."""
    head = Head(features=1024, limit=128, hidden=2048, hidden_limit=1024, num_classes=num_classes)
    return _mobile("netadaptv2-latency", _LATENCY_GUIDED, head, in_channels, resolution, stem=16, stem_stride=2)


def netadaptv2_mac(num_classes: int = 1000, in_channels: int = 3, resolution: int = 224) -> NetworkSpec:
    """Initial network of the MAC-guided search: 1.25 times wider, one more 7x7 block, 11 widths per layer.

    Widths are rounded up to multiples of 8 and the first block has no expansion, as Table 9 shows.
    """
    rows = [
        replace(
            row,
            expansion=None if index == 0 else _widen(row.expansion or 0),
            out=_widen(row.out),
            squeeze=_widen(row.squeeze),
        )
        for index, row in enumerate((*_LATENCY_GUIDED, _LATENCY_GUIDED[-1]))
    ]
    head = Head(features=_widen(1024), limit=128, hidden=_widen(2048), hidden_limit=1024, num_classes=num_classes)
    spec = _mobile("netadaptv2-mac", rows, head, in_channels, resolution, stem=_widen(16), stem_stride=2)
    return replace(spec, num_widths=11)


def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3, resolution: int = 224) -> NetworkSpec:
    """MobileNetV1 1.0, elastic, with T doubled at each halving of the resolution as in Table 10."""
    rows = [(64, 1, 16), (128, 2, 32), (128, 1, 32), (256, 2, 64), (256, 1, 64), (512, 2, 128)]
    rows += [(512, 1, 128)] * 5 + [(1024, 2, 256), (1024, 1, 256)]
    channels, blocks = 32, [stem_block(filters=32, stride=2, limit=16, activation="relu")]
    for index, (out, stride, limit) in enumerate(rows, start=2):
        depthwise = LayerSpec(
            name="depthwise",
            kind="depthwise",
            filters=channels,
            kernel=3,
            stride=stride,
            bypass_limit=None,
            activation="relu",
        )
        pointwise = LayerSpec(name="pointwise", kind="conv", filters=out, bypass_limit=limit, activation="relu")
        blocks.append(BlockSpec(name=f"b{index:02d}", layers=(depthwise, pointwise)))
        channels = out
    return NetworkSpec(
        name="mobilenet-v1",
        blocks=(*blocks, pool_block(), classifier_block(num_classes, 0.2)),
        in_channels=in_channels,
        resolution=resolution,
    )


def mobile_32(num_classes: int = 10, in_channels: int = 3, resolution: int = 32) -> NetworkSpec:
    """A small network of the same family for 32x32 images: seven inverted-residual blocks, T half their width."""
    rows = (
        MobileBlock(8, 5, 1, "relu", 48, 16, 0),
        MobileBlock(16, 5, 2, "relu", 64, 32, 16),
        MobileBlock(16, 5, 1, "relu", 128, 32, 0),
        MobileBlock(32, 5, 2, "hard_swish", 128, 64, 32),
        MobileBlock(32, 5, 1, "hard_swish", 256, 64, 0),
        MobileBlock(32, 5, 1, "hard_swish", 256, 64, 64),
        MobileBlock(32, 5, 1, "hard_swish", 256, 64, 64),
    )
    head = Head(features=256, limit=32, hidden=256, hidden_limit=128, num_classes=num_classes)
    return _mobile("mobile-32", rows, head, in_channels, resolution, stem=16, stem_stride=1)


def mobile_8(num_classes: int = 10, in_channels: int = 1, resolution: int = 8) -> NetworkSpec:
    """The smallest network of the family, for the 8x8 images of handwritten digits."""
    rows = (
        MobileBlock(8, 5, 1, "relu", 32, 16, 0),
        MobileBlock(8, 5, 1, "relu", 32, 16, 16),
        MobileBlock(16, 5, 2, "hard_swish", 64, 32, 16),
        MobileBlock(16, 5, 1, "hard_swish", 128, 32, 32),
        MobileBlock(16, 5, 1, "hard_swish", 128, 32, 32),
    )
    head = Head(features=128, limit=16, hidden=128, hidden_limit=64, num_classes=num_classes)
    return _mobile("mobile-8", rows, head, in_channels, resolution, stem=16, stem_stride=1)


NETWORKS: dict[str, Callable[..., NetworkSpec]] = {
    "netadaptv2-latency": netadaptv2_latency,
    "netadaptv2-mac": netadaptv2_mac,
    "mobilenet-v1": mobilenet_v1,
    "mobile-32": mobile_32,
    "mobile-8": mobile_8,
}


def mobile_space(name: str, *, num_classes: int, in_channels: int = 3, resolution: int | None = None) -> MobileSpace:
    """Return the search space of an initial network by its name.

    Raises:
        ValueError: If no such network is known.
    """
    if name not in NETWORKS:
        raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}, got {name!r}.")
    size = {} if resolution is None else {"resolution": resolution}
    return MobileSpace(NETWORKS[name](num_classes=num_classes, in_channels=in_channels, **size))


def _mobile(
    name: str,
    rows: Sequence[MobileBlock],
    head: Head,
    in_channels: int,
    resolution: int,
    *,
    stem: int,
    stem_stride: int,
) -> NetworkSpec:
    """Put a network together; blocks are named b02, b03, ... as Tables 8 and 9 count them."""
    numbered = (row.block(f"b{index:02d}", depthwise_filters=stem) for index, row in enumerate(rows, start=2))
    first = stem_block(filters=stem, stride=stem_stride, limit=8, activation="hard_swish")
    return NetworkSpec(
        name=name, blocks=(first, *numbered, *head.blocks()), in_channels=in_channels, resolution=resolution
    )


def _widen(width: int) -> int:
    """1.25 times the width, rounded up to a multiple of 8."""
    return -(-width * 5 // 4 // 8) * 8
