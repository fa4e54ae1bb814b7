import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from nasray.hardware import lookup_table
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.layer_key import LayerKey, network_keys
from nasray.hardware.lookup_table import LatencyTable, LookupLatency, TableCheck
from nasray.hardware.table_file import SCHEMA_VERSION
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_space

POOL, STEM = LayerKey("pool", 8, 0, in_size=2), LayerKey("conv", 3, 8, 0, 3, 1, 4, "relu", True)


def write_table(path: Path, *, device: DeviceFingerprint | None = None, schema_version: int = SCHEMA_VERSION) -> Path:
    header = {
        "schema_version": schema_version,
        "unit": "ms",
        "batch_size": 1,
        "device": (device or DeviceFingerprint.of("cpu")).to_json(),
    }
    measured = [(POOL, 0.3), (STEM, 1.0), (POOL, 0.1), (POOL, 0.2)]
    rows = [{"layer": key._asdict(), "latency_ms": value, "spread_ms": 0.0, "repeats": 3} for key, value in measured]
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    return path


def test_load_takes_the_median_of_the_rounds(tmp_path: Path) -> None:
    assert LatencyTable.load(write_table(tmp_path / "table.jsonl")).entries == {POOL: 0.2, STEM: 1.0}


def test_load_drops_a_torn_last_line(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.jsonl")
    path.write_bytes(path.read_bytes() + b'{"layer": {"kind": "po')
    assert LatencyTable.load(path).entries == {POOL: 0.2, STEM: 1.0}


def test_load_refuses_a_damaged_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{torn\n", *lines[1:]]))
    with pytest.raises(ValueError, match=r"which is damaged. Delete it and build it again"):
        LatencyTable.load(path)


def test_load_refuses_a_missing_file_and_another_schema(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"which does not exist. Build the table first"):
        LatencyTable.load(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="schema version 1, got version 99"):
        LatencyTable.load(write_table(tmp_path / "table.jsonl", schema_version=99))


def test_load_refuses_another_device_unless_told_otherwise(tmp_path: Path) -> None:
    phone = replace(DeviceFingerprint.of("cpu", threads=4), model="Snapdragon 821")
    path = write_table(tmp_path / "table.jsonl", device=phone)
    here = DeviceFingerprint.of("cpu").model
    with pytest.raises(ValueError, match=rf"of this device, {here}.*got one of Snapdragon 821 \(4 threads\)"):
        LatencyTable.load(path)
    assert LatencyTable.load(path, any_device=True).device == phone


def test_load_refuses_a_gpu_table_without_that_gpu(tmp_path: Path) -> None:
    gpu = replace(DeviceFingerprint.of("cpu"), kind="cuda", model="NVIDIA Imaginary", threads=None)
    with pytest.raises(ValueError, match="got one of NVIDIA Imaginary"):
        LatencyTable.load(write_table(tmp_path / "table.jsonl", device=gpu))


def test_load_takes_a_table_of_this_device_with_other_threads(tmp_path: Path) -> None:
    device = DeviceFingerprint.of("cpu", threads=7)
    assert LatencyTable.load(write_table(tmp_path / "table.jsonl", device=device)).device.threads == 7


def test_predict_sums_layers_and_residual_additions(tiny_space: MobileSpace, even_table: LatencyTable) -> None:
    plan = tiny_space.plan(tiny_space.largest())
    # stem; expand, depthwise, squeeze-excite, project, addition; expand, depthwise, project; pool; classifier
    assert even_table.predict(plan) == 11 * 0.5
    residual = next(key for key in network_keys(plan) if key.kind == "residual")
    slower = replace(even_table, entries={**even_table.entries, residual: 2.5})
    assert slower.predict(plan) == 11 * 0.5 + 2.0


def test_predict_says_what_is_missing_and_what_to_do(even_table: LatencyTable) -> None:
    other = mobile_space("mobile-8", num_classes=10)
    with pytest.raises(
        ValueError, match=r"hold every layer of 'mobile-8', got none for kind conv.*build_latency_table"
    ):
        even_table.predict(other.plan(other.largest()))
    with pytest.raises(ValueError, match="hold every layer of 'mobile-8'"):
        LookupLatency(other, even_table)


def test_lookup_latency_is_predicted_and_names_the_table(tiny_space: MobileSpace, even_table: LatencyTable) -> None:
    cost = pickle.loads(pickle.dumps(LookupLatency(tiny_space, even_table)))
    value = cost(tiny_space.largest())
    assert (value.value, value.unit, value.quality) == (5.5, "ms", "predicted")
    assert value.source == even_table.describe()


def test_describe_shows_device_and_check(even_table: LatencyTable) -> None:
    assert even_table.describe().endswith("unchecked")
    check = TableCheck(
        space="tiny", num_networks=8, median_ratio=0.9, mean_absolute_percentage_error=12.3, kendall_tau=0.8
    )
    text = replace(even_table, checks={"tiny": check}).describe()
    assert even_table.device.describe() in text
    assert "checked on 8 networks of tiny: predicted/measured 0.90, error 12.3 %, Kendall tau 0.80" in text


def test_lookup_table_is_of_no_use_for_another_space(tiny_space: MobileSpace, even_table: LatencyTable) -> None:
    cost = lookup_table.LookupLatency(tiny_space, even_table)
    with pytest.raises(ValueError, match="must belong to space 'tiny', got 'mobile-8'"):
        cost(mobile_space("mobile-8", num_classes=10).largest())
