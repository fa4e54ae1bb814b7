import json
import os
from pathlib import Path

import pandas as pd
import pytest

from nasray.hardware.block_table import BlockKey, BlockTable, distance
from nasray.hardware.front_check import CheckedNetwork, CostCheck
from nasray.hardware.imported_tables import (
    import_block_table,
    once_for_all_blocks,
    proxyless_blocks,
    table_names,
)

BLOCK = BlockKey("block", 16, 24, 56, 2, 3, 48)
STEM = BlockKey("conv", 3, 16, 112, 2, 3)


def luts():
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA is not set: it names the folder with the published tables")
    return Path(os.environ["NASRAY_DATA"]) / "latency_luts"


def test_macs_are_those_worked_out_by_hand():
    # 16 x 48 x 56 x 56; 48 x 9 x 28 x 28; 48 x 24 x 28 x 28
    assert BLOCK.macs == 2_408_448 + 338_688 + 903_168
    assert STEM.macs == 3 * 16 * 9 * 56 * 56
    assert BlockKey("pool", 8, 8, 7).macs == 0
    assert BlockKey("block", 8, 8, 4, 1, 3, 8, squeeze_excite=2).macs == 8 * 9 * 16 + 2 * 8 * 2 + 8 * 8 * 16


def test_a_network_is_the_sum_of_its_blocks_and_the_base():
    table = BlockTable("phone", "test", {BLOCK: 2.0, STEM: 1.0, BlockKey("base"): 0.25})
    found = table.predict([STEM, BLOCK, BLOCK])
    assert (found.latency_ms, found.num_blocks, found.num_estimated) == (5.25, 3, 0)


def test_a_missing_block_is_refused_or_scaled_from_the_nearest_and_counted():
    far = BlockKey("block", 96, 96, 7, 1, 7, 576)
    table = BlockTable("phone", "test", {BLOCK: 2.0, far: 30.0})
    wider = BLOCK._replace(out_channels=32)
    assert table.missing([BLOCK, wider]) == [wider]
    with pytest.raises(ValueError, match=r"which has none for kind block, .*out_channels 32.*may_estimate=True"):
        table.predict([wider])
    found = table.predict([BLOCK, wider], may_estimate=True)
    assert found.latency_ms == pytest.approx(2 + 2 * wider.macs / BLOCK.macs)
    assert found.num_estimated == 1
    assert distance(wider, BLOCK) < distance(wider, far)
    with pytest.raises(ValueError, match="which has none for kind linear"):
        table.predict([BlockKey("linear", 8, 10)], may_estimate=True)


def test_a_table_without_positive_entries_is_refused():
    with pytest.raises(ValueError, match="must hold a block, got none"):
        BlockTable("phone", "test", {})
    with pytest.raises(ValueError, match=r"must be positive, got -1.0"):
        BlockTable("phone", "test", {BLOCK: -1.0})


def test_a_saved_table_is_the_same(tmp_path):
    table = BlockTable("phone", "test", {BLOCK: 2.0, STEM: 1.0}, num_dropped=3)
    table.save(tmp_path / "t.json")
    assert BlockTable.load(tmp_path / "t.json") == table
    assert "3 rows without a positive latency left out" in table.describe()
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a block table of schema version 1"):
        BlockTable.load(tmp_path / "t.json")
    with pytest.raises(ValueError, match=r"must be a block table .* which cannot be read"):
        BlockTable.load(tmp_path / "none.json")


def test_keys_are_read_in_the_notation_of_each_publisher(tmp_path):
    rows = [
        ("p", "Conv-input:224x224x3-output:112x112x32", 4.0),
        ("p", "expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0", 4.4),
        ("o", "expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:1-hs:1", 0.9),
        ("o", "Logits-input:1x1x1536-output:1000", 0.6),
        ("o", "Logits-input:1x1x1536-output:1000", 0.8),
    ]
    frame = pd.DataFrame([{"lut": lut, "device": lut + "-phone", "key": key, "mean_ms": ms} for lut, key, ms in rows])
    path = tmp_path / "luts.csv"
    frame.to_csv(path)
    assert table_names(path) == ["o", "p"]
    proxyless, once = import_block_table(path, "p"), import_block_table(path, "o")
    assert proxyless.device == "p-phone"
    assert proxyless.entries == {
        BlockKey("conv", 3, 32, 224, 2, 3): 4.0,
        BlockKey("block", 24, 40, 56, 2, 5, 72): 4.4,
    }
    assert once.entries == {
        BlockKey("block", 96, 96, 14, 1, 3, 288, 72, "hard_swish", True): 0.9,
        BlockKey("linear", 1536, 1000): pytest.approx(0.7),
    }
    with pytest.raises(ValueError, match=r"`name` must be a table of .*, one of o, p, got 'x'"):
        import_block_table(path, "x")


def test_negative_latencies_are_dropped_and_counted(tmp_path):
    block = "MBInvertedResBlock_112_16_8_24_k3_s2_relu"
    rows = [("gpu", "base", "", 1.5), ("gpu", block, "4", -0.1), ("gpu", block, "5", 0.2), ("cpu", "base", "", 2.0)]
    path = tmp_path / "tf.csv"
    pd.DataFrame(rows, columns=["device", "block", "mid_channels", "latency_ms"]).to_csv(path)
    table = import_block_table(path, "gpu")
    assert table.num_dropped == 1
    assert table.entries == {
        BlockKey("base"): 1.5,
        BlockKey("block", 16, 24, 112, 2, 3, 5, 8, "relu", False): 0.2,
    }


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="must have the columns lut, device, key, mean_ms"):
        table_names(path)
    with pytest.raises(ValueError, match="which does not exist"):
        table_names(tmp_path / "none.csv")
    path.write_text("lut,device,key,mean_ms\np,phone,expanded_conv-input:1,2\n")
    with pytest.raises(ValueError, match="must read like those of ProxylessNAS or Once-for-All, got 'expanded_conv"):
        import_block_table(path, "p")
    path.write_text("device,block,mid_channels,latency_ms\ng,Block_1,2,2\n")
    with pytest.raises(ValueError, match="must read like those of TF-NAS, got 'Block_1'"):
        import_block_table(path, "g")


@pytest.mark.data
def test_the_note10_table_gives_the_published_latencies():
    folder = luts()
    table = import_block_table(folder / "mobile_block_luts.parquet", "ofa_note10")
    nets = pd.read_parquet(folder / "ofa_specialized_nets.parquet")
    networks, num_exact = [], 0
    for row in nets[nets.device == "note10"].itertuples():
        blocks = once_for_all_blocks(row.blocks, resolution=row.image_size)
        found = table.predict(blocks, may_estimate=True)
        if not found.num_estimated:
            num_exact += 1
            assert found.latency_ms == pytest.approx(row.value, abs=0.5)  # published to the millisecond
        networks.append(
            CheckedNetwork(arch_id=row.net_id, label="", predicted=found.latency_ms, measured=row.value, spread=None)
        )
    check = CostCheck.of(networks, metric="latency_ms", unit="ms", device="note10")
    assert num_exact == 1
    assert len(networks) == 8
    assert check.kendall_tau == pytest.approx(1)
    assert check.mean_absolute_percentage_error < 5


@pytest.mark.data
def test_the_tf_nas_table_drops_172_rows():
    path = luts() / "tfnas_block_lut.parquet"
    assert sum(import_block_table(path, name).num_dropped for name in table_names(path)) == 172


@pytest.mark.data
def test_the_pixel_table_covers_all_but_three_blocks_of_proxyless_mobile():
    folder = luts()
    networks = json.loads((folder / "proxylessnas_archs.json").read_text())
    table = import_block_table(folder / "mobile_block_luts.parquet", "proxylessnas_mobile_trim")
    network = networks["proxyless_mobile"]
    blocks = proxyless_blocks(network)
    assert len(table.missing(blocks)) == network["lut_missing_keys"] == 3
    known_ms = sum(table.entries[key] for key in blocks if key in table.entries)
    assert known_ms == pytest.approx(network["pixel1_lut_sum_ms"])
