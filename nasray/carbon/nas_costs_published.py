"""The searches that the implemented papers report on, each figure as printed there and nothing filled in."""

from __future__ import annotations

from nasray.carbon.nas_costs import SearchMethod

_TABLE_1 = "Yang et al. 2021 (NetAdaptV2), Table 1"
_TABLE_2 = "Yang et al. 2021 (NetAdaptV2), Table 2"
_TABLE_3 = "Yang et al. 2021 (NetAdaptV2), Table 3"
_TABLE_7 = "Yang et al. 2021 (NetAdaptV2), Table 7"
_FU = "Fu et al. 2021, Fig. 2"
_WHOLE = "includes the training of the network found"
_TPU = "counted as V100 hours: no rated power is published for the TPU"

PUBLISHED_LB = {
    "ProxylessNAS": 142,
    "Single-Path NAS": 69,
    "Once-for-All": 374,
    "BigNAS": 655,
    "NetAdaptV2 (latency)": 113,
}
"""NetAdaptV2's Table 1, column "CO2 emission (lbs)", as printed."""


def _method(
    name: str,
    source: str,
    top1_percent: float | None = None,
    macs_millions: float | None = None,
    gpu_hours: float | None = None,
    *,
    gpu_type: str | None = "V100",
    note: str = "",
) -> SearchMethod:
    """Return a method from figures in the units of the papers' tables."""
    return SearchMethod(
        name=name,
        gpu_hours=gpu_hours,
        gpu_type=gpu_type,
        top1_accuracy=None if top1_percent is None else top1_percent / 100,
        macs=None if macs_millions is None else macs_millions * 1e6,
        source=source,
        note=note,
    )


PUBLISHED_METHODS: tuple[SearchMethod, ...] = (
    _method("MnasNet", _TABLE_1, 75.2, 312),
    _method("ProxylessNAS", _TABLE_1, 74.6, 320, 500),
    _method("Single-Path NAS", _TABLE_1, 75.6, None, 243, note=f"{_WHOLE}; 24 of the hours are a TPU v3's, {_TPU}"),
    _method("AutoSlim", _TABLE_1, 74.6, 315),
    _method("FBNet", _TABLE_1, 74.9, 375),
    _method("MobileNetV3", _TABLE_1, 75.2, 219),
    _method("FairNAS", _TABLE_1, 76.7, 325),
    _method("Once-for-All", _TABLE_1, 76.9, 230, 1315, note=_WHOLE),
    _method("BigNAS", _TABLE_1, 76.5, 242, 2304, gpu_type=None, note=f"hours of TPU v3, {_TPU}"),
    _method("NetAdaptV2 (latency)", _TABLE_1, 77.0, 225, 397, note=_WHOLE),
    _method("NSGANetV2-m", _TABLE_2, 78.3, 312, 1674, note=_WHOLE),
    _method("EfficientNet-B0", _TABLE_2, 77.3, 390),
    _method("MixNet-M", _TABLE_2, 77.0, 360),
    _method("NetAdaptV2 (MACs)", _TABLE_2, 78.5, 314, 656, note=_WHOLE),
    _method("NetAdaptV1", _TABLE_3, 71.0, None, 721, note=f"on MobileNetV1; {_WHOLE}"),
    _method("NetAdaptV1 + OD", _TABLE_3, 71.1, None, 221, note=f"with ordered dropout, on MobileNetV1; {_WHOLE}"),
    _method("NetAdaptV1 for depth", _TABLE_7, None, None, 161, note="NYU Depth V2; 96 hours are ImageNet pre-training"),
    _method("NetAdaptV2 for depth", _TABLE_7, None, None, 123, note="NYU Depth V2; 96 hours are ImageNet pre-training"),
    _method(
        "DARTS",
        "Cioflan and Timofte (MS-RANAS), Sec. 2.1",
        gpu_hours=96,
        gpu_type=None,
        note="printed as 4 GPU days",
    ),
    _method("MS-RANAS", "Cioflan and Timofte (MS-RANAS)", gpu_type=None, note="its text prints no GPU hours"),
    _method(
        "MENNDL (one data set)",
        "Young et al. 2019, Sec. III-B",
        gpu_hours=1728,
        note="allocation: 2 runs x 24 nodes x 6 Volta GPUs x 6 hours; 81.82 % on CIFAR-10",
    ),
    _method("NAT-M4", _FU, gpu_type=None, note="its text names the network only"),
    _method("MiLeNAS-5", _FU, gpu_type=None, note="its text names the network only"),
    _method("FBNet-A", _FU, gpu_type=None, note="its text names the network only"),
)
