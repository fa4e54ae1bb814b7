"""Published networks built from the same layers: what a search found, and the references to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasray.architecture import Architecture
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import (
    classifier_block,
    mobilenet_v1,
    netadaptv2_latency,
    netadaptv2_mac,
    pool_block,
)
from nasray.spaces.network_plan import NetworkPlan
from nasray.spaces.network_spec import Activation, BlockSpec, LayerSpec, NetworkSpec


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """A network and the figures published for it.

    Args:
        name: As in the literature.
        plan: The network.
        parameters: Published number of parameters; `None` where the paper gives none.
        macs: Published multiply-adds at batch 1.
        source: Where the figures stand.
    """

    name: str
    plan: NetworkPlan
    parameters: int | None
    macs: int
    source: str


def published_networks() -> list[PublishedNetwork]:
    """Return every reference network that the mobile layers can build, at 224x224 and 1,000 classes."""
    torchvision = "torchvision model zoo"
    latency, mac = MobileSpace(netadaptv2_latency()), MobileSpace(netadaptv2_mac())
    yang = "Yang et al. 2021, appendix B"
    rows = [
        ("mobilenet-v1", _largest(mobilenet_v1()), 4_231_976, 568_740_000, "Howard et al. 2017"),
        ("mobilenet-v2", _largest(mobilenet_v2()), 3_504_872, 300_770_000, torchvision),
        ("mobilenet-v3-large", _largest(mobilenet_v3_large()), 5_483_032, 216_590_000, torchvision),
        ("mobilenet-v3-small", _largest(mobilenet_v3_small()), 2_542_856, 56_510_000, torchvision),
        ("efficientnet-b0", _largest(efficientnet_b0()), 5_288_548, 385_810_000, torchvision),
        ("netadaptv2-table8", latency.plan(table_8()), None, 225_000_000, yang),
        ("netadaptv2-table9", mac.plan(table_9()), None, 314_000_000, yang),
    ]
    return [PublishedNetwork(name=n, plan=p, parameters=q, macs=m, source=s) for n, p, q, m, s in rows]


def mobilenet_v2() -> NetworkSpec:
    """MobileNetV2 1.0 (Sandler et al. 2018, Table 2)."""
    rows: list[_Row] = []
    for ratio, out, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)):
        rows += [_Row(3, ratio, out, 0, "relu6", stride if index == 0 else 1) for index in range(count)]
    rows += [_Row(3, 6, 160, 0, "relu6", 2 if index == 0 else 1) for index in range(3)]
    rows += [_Row(3, 6, 320, 0, "relu6", 1)]
    return _fixed("mobilenet-v2", rows, stem=32, activation="relu6", features=1280)


def mobilenet_v3_large() -> NetworkSpec:
    """MobileNetV3-Large 1.0 (Howard et al. 2019, Table 1)."""
    re: Activation = "relu"
    hs: Activation = "hard_swish"
    table: list[tuple[int, int, int, int, Activation, int]] = [
        (3, 16, 16, 0, re, 1), (3, 64, 24, 0, re, 2), (3, 72, 24, 0, re, 1), (5, 72, 40, 24, re, 2),
        (5, 120, 40, 32, re, 1), (5, 120, 40, 32, re, 1), (3, 240, 80, 0, hs, 2), (3, 200, 80, 0, hs, 1),
        (3, 184, 80, 0, hs, 1), (3, 184, 80, 0, hs, 1), (3, 480, 112, 120, hs, 1), (3, 672, 112, 168, hs, 1),
        (5, 672, 160, 168, hs, 2), (5, 960, 160, 240, hs, 1), (5, 960, 160, 240, hs, 1),
    ]  # fmt: skip
    return _mobilenet_v3("mobilenet-v3-large", table, features=960, hidden=1280)


def mobilenet_v3_small() -> NetworkSpec:
    """MobileNetV3-Small 1.0 (Howard et al. 2019, Table 2)."""
    re: Activation = "relu"
    hs: Activation = "hard_swish"
    table: list[tuple[int, int, int, int, Activation, int]] = [
        (3, 16, 16, 8, re, 2), (3, 72, 24, 0, re, 2), (3, 88, 24, 0, re, 1), (5, 96, 40, 24, hs, 2),
        (5, 240, 40, 64, hs, 1), (5, 240, 40, 64, hs, 1), (5, 120, 48, 32, hs, 1), (5, 144, 48, 40, hs, 1),
        (5, 288, 96, 72, hs, 2), (5, 576, 96, 144, hs, 1), (5, 576, 96, 144, hs, 1),
    ]  # fmt: skip
    return _mobilenet_v3("mobilenet-v3-small", table, features=576, hidden=1024)


def efficientnet_b0() -> NetworkSpec:
    """EfficientNet-B0 (Tan and Le 2019, Table 1); squeezes to a quarter of the block's input."""
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5))
    rows, channels = [], 32
    for ratio, out, count, stride, kernel in (*stages, (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)):
        for index in range(count):
            rows.append(_Row(kernel, ratio, out, channels // 4, "silu", stride if index == 0 else 1))
            channels = out
    return _fixed("efficientnet-b0", rows, stem=32, activation="silu", features=1280)


@dataclass(frozen=True)
class _Row:
    kernel: int
    expansion: int
    """Ratio to the block's input, or filters where it is over 15."""
    out: int
    squeeze: int
    activation: Activation
    stride: int


def _mobilenet_v3(
    name: str, table: Sequence[tuple[int, int, int, int, Activation, int]], *, features: int, hidden: int
) -> NetworkSpec:
    rows = [_Row(k, exp, out, se, act, s) for k, exp, out, se, act, s in table]
    return _fixed(name, rows, stem=16, activation="hard_swish", features=features, hidden=hidden)


def _fixed(
    name: str, rows: Sequence[_Row], *, stem: int, activation: Activation, features: int, hidden: int = 0
) -> NetworkSpec:
    """A network that is not searched: no bypasses, residual only where both sides are equally wide."""
    conv = LayerSpec(
        name="conv", kind="conv", filters=stem, kernel=3, stride=2, activation=activation, is_elastic=False
    )
    blocks, channels = [BlockSpec(name="stem", layers=(conv,))], stem
    for index, row in enumerate(rows, start=2):
        expanded = row.expansion if row.expansion > 15 else row.expansion * channels
        blocks.append(_fixed_block(f"b{index:02d}", row, channels, expanded))
        channels = row.out
    pointwise = replace(conv, filters=features, kernel=1, stride=1)
    blocks.append(BlockSpec(name="features", layers=(pointwise,)))
    blocks.append(pool_block())
    if hidden:
        inner = replace(pointwise, filters=hidden, has_batch_norm=False)
        blocks.append(BlockSpec(name="hidden", layers=(inner,)))
    return NetworkSpec(name=name, blocks=(*blocks, classifier_block(1000, 0.2)), resolution=224)


def _fixed_block(name: str, row: _Row, channels: int, expanded: int) -> BlockSpec:
    expand = LayerSpec(name="expand", kind="conv", filters=expanded, activation=row.activation, is_elastic=False)
    layers = [expand] if expanded != channels else []
    layers.append(replace(expand, name="depthwise", kind="depthwise", kernel=row.kernel, stride=row.stride))
    if row.squeeze:
        inner: Activation = "silu" if row.activation == "silu" else "relu"
        layers.append(
            replace(
                expand,
                name="squeeze_excite",
                kind="squeeze_excite",
                filters=row.squeeze,
                activation=inner,
                has_batch_norm=False,
            )
        )
    layers.append(replace(expand, name="project", filters=row.out, activation="none"))
    return BlockSpec(name=name, layers=tuple(layers), has_residual=row.stride == 1 and channels == row.out)


def _largest(spec: NetworkSpec) -> NetworkPlan:
    space = MobileSpace(spec)
    return space.plan(space.largest())


def table_8() -> Architecture:
    """The 51 ms network found by the latency-guided search (Yang et al. 2021, Table 8)."""
    rows = [(8, 8, 16, 3), (48, 48, 20, 5), (48, 48, 32, 3), (80, 80, 32, 7), (112, 80, 40, 3), (64, 32, 16, 3)]
    rows += [(96, 96, 8, 3), (192, 192, 128, 5), (224, 192, 128, 5), (128, 32, 48, 3), (0, 0, 0, 3)]
    rows += [(512, 256, 80, 3), (256, 256, 112, 3), (512, 512, 64, 5), (640, 640, 224, 7), (640, 384, 224, 7)]
    rows += [(896, 512, 224, 5)]
    return _from_table(MobileSpace(netadaptv2_latency()), rows, stem=16, features=1024, hidden=1792)


def table_9() -> Architecture:
    """The 314M-MAC network found by the MAC-guided search (Yang et al. 2021, Table 9)."""
    rows = [(0, 24, 24, 3), (64, 48, 32, 5), (128, 64, 32, 3), (96, 96, 48, 5), (128, 80, 56, 3), (0, 0, 0, 3)]
    rows += [(0, 0, 0, 3), (224, 224, 96, 5), (224, 96, 96, 3), (256, 256, 96, 3), (0, 0, 0, 3), (640, 640, 144, 5)]
    rows += [(640, 512, 144, 3), (0, 0, 0, 3), (768, 640, 192, 5), (768, 256, 192, 5), (896, 768, 192, 7)]
    rows += [(1152, 1152, 192, 7)]
    return _from_table(MobileSpace(netadaptv2_mac()), rows, stem=24, features=1152, hidden=2048)


def _from_table(
    space: MobileSpace, rows: Sequence[tuple[int, int, int, int]], *, stem: int, features: int, hidden: int
) -> Architecture:
    choices = {"stem.conv.width": stem, "features.conv.width": features, "hidden.conv.width": hidden}
    for index, (expand, depthwise, project, kernel) in enumerate(rows, start=2):
        block = f"b{index:02d}"
        choices |= {f"{block}.expand.width": expand, f"{block}.depthwise.width": depthwise}
        choices |= {f"{block}.project.width": project, f"{block}.depthwise.kernel": kernel}
    return space.canonical({name: choices[name] for name in space.choices})
