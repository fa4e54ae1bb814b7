"""Energy per inference in a table of results."""

from dataclasses import replace

from rich.console import Console

from nasray.architecture import Architecture
from nasray.hardware.inference_energy import InferenceEnergy
from nasray.tune.inference_rows import with_inference_energy
from nasray.tune.progress import StageProgress

KNOWN = InferenceEnergy(
    gross_mj=8.0,
    above_idle_mj=5.0,
    spread=0.01,
    power_w=50.0,
    images_per_s=10.0,
    quality="measured",
    is_shared=False,
    source="counter",
    device="gpu",
    batch_size=100,
    window_s=10.0,
    num_windows=3,
)


def test_each_network_is_measured_once_and_compared_with_the_first() -> None:
    large, small = (Architecture.of("test", {"width": width}) for width in (8, 2))
    asked = []

    def measure(architecture):
        asked.append(architecture)
        return replace(KNOWN, gross_mj=8.0 if architecture == large else 2.0)

    rows = [
        {"network": name, "arch_id": architecture.arch_id, "metrics": {"accuracy": 0.5}, "saves": {}}
        for name, architecture in (("best", large), ("least", small), ("trade-off", small))
    ]
    known = {architecture.arch_id: architecture for architecture in (large, small)}
    found = with_inference_energy(rows, known, measure, StageProgress(Console(quiet=True)))
    assert asked == [large, small]
    assert [row["metrics"]["energy_mj"] for row in found] == [8.0, 2.0, 2.0]
    assert [row["saves"]["energy_mj"] for row in found] == [1.0, 4.0, 4.0]
    assert found[1]["inference_energy"]["above_idle_mj"] == 5.0
    assert "energy_mj" not in rows[0]["metrics"]


def test_an_unknown_energy_is_left_out() -> None:
    network = Architecture.of("test", {"width": 8})
    rows = [{"network": "best", "arch_id": network.arch_id, "metrics": {}, "saves": {}}]
    unknown = replace(KNOWN, gross_mj=None, quality="unavailable")
    (row,) = with_inference_energy(
        rows, {network.arch_id: network}, lambda _: unknown, StageProgress(Console(quiet=True))
    )
    assert row["metrics"] == {} and row["inference_energy"]["quality"] == "unavailable"
