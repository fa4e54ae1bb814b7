"""Lookup tables, block tables, published tables and tables of architectures."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from contract import check
from damage import files, json_files, line_files, place, texts

from nasray.carbon.nas_costs import read_methods
from nasray.hardware.block_table import BlockKey, BlockTable
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.imported_tables import import_block_table, once_for_all_blocks, table_names
from nasray.hardware.layer_key import LayerKey
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.piece_key import PieceKey
from nasray.spaces.tabular import TabularSpace

DEVICE = DeviceFingerprint(kind="cpu", model="x", threads=1, torch_version="2.13", system="Linux x86_64")
ROWS = [
    {"schema_version": 1, "unit": "ms", "batch_size": 1, "device": DEVICE.to_json()},
    {"layer": LayerKey("conv", 3, 8, kernel=3, in_size=8)._asdict(), "latency_ms": 0.5, "spread_ms": 0.1, "repeats": 9},
    {
        "layer": PieceKey("sum", (8, 4, 4), (("terms", 2),))._asdict(),
        "latency_ms": 0.25,
        "spread_ms": 0.1,
        "repeats": 9,
    },
    {
        "check": {"space": "cell", "num_networks": 2, "median_ratio": 0.9}
        | {"mean_absolute_percentage_error": 10.0, "kendall_tau": 1.0}
    },
]
TABULAR = "arch,latency_ms,accuracy\n" + "".join(f"{n}|a{n % 3}|{'xyz'[n % 3]},{n}.5,0.{n}\n" for n in range(1, 9))
OFA = "expanded_conv-input:56x56x24-output:28x28x40-expand:72-kernel:5-stride:2-idskip:0-se:1-hs:0"
PROXYLESS = (
    f"lut,device,key,mean_ms\npixel1,pixel1,{OFA},1.5\npixel1,pixel1,Conv-input:224x224x3-output:112x112x24,2.5\n"
)
TF_NAS = (
    "device,block,mid_channels,latency_ms\ngpu,base,,3.5\n"
    "gpu,MBInvertedResBlock_112_16_0_24_k3_s2_relu,48,0.5\ngpu,MBInvertedResBlock_56_24_24_24_k3_s1_swish,96,0\n"
)
METHODS = "name,gpu_hours,source,gpu_type\nMine,12.5,here,V100\nYours,3,there,P100\n"


def parquet(text):
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text), dtype={"mid_channels": str}, keep_default_na=False).to_parquet(buffer)
    return buffer.getvalue()


def test_lookup_tables(fresh):
    def accept(found, case):
        assert found.batch_size >= 1
        assert all(isinstance(value, float) and 0 < value < math.inf for value in found.entries.values())
        assert all(np.isfinite(check.median_ratio) for check in found.checks.values())

    check(
        "lookup table",
        line_files(ROWS),
        lambda case: LatencyTable.load(place(fresh("table.jsonl"), case), any_device=True),
        examples=1200,
        accept=accept,
    )


def test_block_tables(fresh):
    table = BlockTable("phone", "test", {BlockKey("block", 16, 24, 56, 2, 3, 96): 1.5, BlockKey("base"): 3.0}, 2)
    table.save(path := fresh("valid.json"))

    def accept(found, case):
        found.save(again := fresh("again.json"))
        assert BlockTable.load(again) == found
        assert all(0 < value < math.inf for value in found.entries.values())
        assert len(found.entries) == len(json.loads(case)["entries"])
        found.predict([BlockKey("block", 16, 24, 28, 2, 3, 96)], may_estimate=True) if "block" in str(found) else None

    check(
        "block table",
        json_files(json.loads(path.read_text())),
        lambda case: BlockTable.load(place(fresh("table.json"), case)),
        examples=800,
        accept=lambda found, case: accept(found, case),
    )


@pytest.mark.parametrize(("kind", "content"), [("ProxylessNAS", PROXYLESS), ("TF-NAS", TF_NAS)])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_published_tables(fresh, kind, content, suffix):
    content = parquet(content) if suffix == "parquet" else content.encode()

    def parse(case):
        path = place(fresh(f"table.{suffix}"), case)
        return [import_block_table(path, name) for name in table_names(path)]

    def accept(found, case):
        assert all(0 < value < math.inf for table in found for value in table.entries.values())

    check(f"{kind}'s table, {suffix}", files(content), parse, examples=300, accept=accept)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_of_architectures(fresh, suffix):
    content = parquet(TABULAR) if suffix == "parquet" else TABULAR.encode()

    def accept(found, case):
        assert len(found) + found.num_merged + found.num_dropped >= len(found) >= 1
        for name in found.metric_names:
            assert np.isfinite(found.column(name)).all()
        assert found.canonical(found.architectures[0].choices) == found.architectures[0]

    check(
        f"table of architectures, {suffix}",
        files(content),
        lambda case: TabularSpace.from_file(
            place(fresh(f"table.{suffix}"), case), architecture="arch", metrics=["latency_ms", "accuracy"]
        ),
        examples=800 if suffix == "csv" else 400,
        accept=accept,
        refusals=(ValueError, FileNotFoundError),
    )


def test_architectures_in_json_cells(fresh):
    cells = [json.dumps({"width": [8, 16 * n], "kernel": {"a": n}}) for n in range(1, 4)]
    content = pd.DataFrame({"arch": cells, "cost": [1.0, 2.0, 3.0]}).to_csv(index=False).encode()

    def accept(found, case):
        assert found.canonical(found.architectures[-1].choices) == found.architectures[-1]

    check(
        "table of architectures, JSON cells",
        files(content),
        lambda case: TabularSpace.from_file(place(fresh("t.csv"), case), architecture="arch", duplicates="first"),
        examples=400,
        accept=accept,
        refusals=(ValueError, FileNotFoundError),
    )


def test_tables_of_search_costs(fresh):
    def accept(found, case):
        assert len({method.name for method in found}) == len(found)
        assert all(0 < method.gpu_hours < math.inf for method in found if method.gpu_hours is not None)

    check(
        "table of search costs",
        files(METHODS.encode()),
        lambda case: read_methods(place(fresh("methods.csv"), case)),
        examples=600,
        accept=accept,
    )


def test_networks_of_once_for_all():
    valid = '[[16, 24, 3, 2, 4, 64, "relu", false], [24, 40, 5, 2, 4, 96, "h_swish", true]]'
    check(
        "Once-for-All network",
        texts(valid),
        lambda case: once_for_all_blocks(case, resolution=224),
        examples=300,
        accept=lambda found, case: [key.macs for key in found],
    )


def test_a_surplus_cell_in_every_line_moves_no_column(fresh):
    content = b"arch,latency_ms,accuracy\n" + b"".join(b"%d|a,%d.5,0.9,7\n" % (n, n) for n in range(3))
    with pytest.raises(ValueError, match="more cells than there are columns"):
        TabularSpace.from_file(place(fresh("t.csv"), content), architecture="arch")
