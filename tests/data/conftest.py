"""Tiny data sets in every layout, written to a temporary folder."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from nasray.data import ImageData
from nasray.data.splits import MemorySplit


def _write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _batch(num_images: int, num_classes: int, label_key: str, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    labels = [index % num_classes for index in range(num_images)]
    return {"data": rng.integers(0, 256, (num_images, 3072), dtype=np.uint8), label_key: labels}


@pytest.fixture
def cifar10_folder(tmp_path: Path) -> Path:
    """CIFAR-10's python batches: 5 x 20 training and 20 test images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        _write_pickle(folder / f"data_batch_{number}", _batch(20, 10, "labels", number))
    _write_pickle(folder / "test_batch", _batch(20, 10, "labels", 6))
    _write_pickle(folder / "batches.meta", {"label_names": [f"name{label}" for label in range(10)]})
    return folder


@pytest.fixture
def cifar100_folder(tmp_path: Path) -> Path:
    """CIFAR-100's python batches: 300 training and 100 test images, with bytes for keys as some tools write."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, num_images in (("train", 300), ("test", 100)):
        batch = _batch(num_images, 100, "fine_labels", num_images)
        _write_pickle(folder / name, {key.encode(): value for key, value in batch.items()})
    _write_pickle(folder / "meta", {"fine_label_names": [f"fine{label}" for label in range(100)]})
    return folder


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Return a function that encodes a random image."""

    def encode_image(seed: int, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=kind)
        return buffer.getvalue()

    return encode_image


@pytest.fixture
def write_parquet(encode: Callable[..., bytes]) -> Callable[..., None]:
    """Return a function that writes labelled images, by default random, to a parquet file of several row groups."""

    def write(
        path: Path,
        labels: list[int | None],
        *,
        images: dict[int, bytes | None] | None = None,
        columns: tuple[str, str] = ("img", "label"),
        class_names: list[str] | None = None,
    ) -> None:
        encoded = [(images or {}).get(row, encode(row)) for row in range(len(labels))]
        structs = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(encoded)]
        image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({columns[0]: pa.array(structs, image_type), columns[1]: pa.array(labels, pa.int64())})
        if class_names:
            features = {columns[1]: {"names": class_names, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, path, row_group_size=7)

    return write


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three classes of 10 training and 4 validation JPEGs of various sizes, each of one colour that tells the class."""
    root = tmp_path / "imagenet"
    colours = {"n01": (250, 0, 0), "n02": (0, 250, 0), "n03": (0, 0, 250)}
    for part, num_images in (("train", 10), ("val", 4)):
        for name, colour in colours.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(num_images):
                Image.new("RGB", (40 + 3 * index, 60), colour).save(folder / f"{index}.JPEG")
    return root


@pytest.fixture
def make_data() -> Callable[..., ImageData]:
    """Return a function that makes a data set in memory whose image i has all values i."""

    def make(num_images: int = 20, *, side: int = 4, channels: int = 1, **changes: object) -> ImageData:
        values = torch.arange(num_images, dtype=torch.uint8).view(-1, 1, 1, 1)
        split = MemorySplit(
            images_NCHW=values.expand(-1, channels, side, side).contiguous(), labels_N=torch.arange(num_images)
        )
        fields: dict[str, object] = {
            "name": "made",
            "train": split,
            "holdout": split.subset(torch.arange(2)),
            "test": split,
            "num_classes": num_images,
            "channels": channels,
            "resolution": side,
            "mean": (0.0,) * channels,
            "std": (1 / 255,) * channels,
            "class_names": tuple(str(label) for label in range(num_images)),
        }
        return ImageData(**(fields | changes))  # type: ignore[arg-type]

    return make
