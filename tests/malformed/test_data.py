"""Data sets: CIFAR's batches, parquet, image folders."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from contract import check
from damage import files, place
from PIL import Image

from nasray.data import load_image_data
from nasray.data.safe_pickle import read_array_pickle

pytestmark = pytest.mark.filterwarnings("ignore:Skipping .* unreadable")


def batch(count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pickle.dumps({"data": images, "labels": [n % 10 for n in range(count)]}, 2)


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(count):
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(count)], "label": [n % 2 for n in range(count)]}
    pq.write_table(pa.table(rows), buffer := io.BytesIO())
    return buffer.getvalue()


def load(folder):
    images = load_image_data(folder, holdout=2)
    for split in (images.train, images.holdout, images.test):
        assert split.labels_N.min() >= 0 and split.labels_N.max() < images.num_classes
    return images


def test_cifar_batches(fresh):
    names = [f"data_batch_{n}" for n in range(1, 6)]

    def parse(case):
        folder = fresh("x").parent
        for seed, name in enumerate([*names[1:], "test_batch"]):
            (folder / name).write_bytes(batch(2, seed))
        place(folder / names[0], case)
        return load(folder)

    check("CIFAR batch", files(batch(2, 9)), parse, examples=200)


def test_pickles_of_arrays(fresh):
    check(
        "pickle of arrays",
        files(batch(1, 0)),
        lambda case: read_array_pickle(place(fresh("batch"), case)),
        examples=300,
        accept=lambda found, case: [str(key) for key in found],
    )


def test_parquet_of_images(fresh):
    test = parquet(4)

    def parse(case):
        folder = fresh("x").parent
        (folder / "test.parquet").write_bytes(test)
        place(folder / "train.parquet", case)
        return load(folder)

    check("parquet of images", files(parquet(10)), parse, examples=200)


def test_images_of_a_folder(fresh):
    def parse(case):
        folder = fresh("x").parent
        for part in ("train", "val"):
            for name in ("a", "b"):
                (folder / part / name).mkdir(parents=True)
                for seed in range(3):
                    (folder / part / name / f"{seed}.png").write_bytes(png(seed))
        (folder / "train" / "a" / "0.png").unlink()
        place(folder / "train" / "a" / "0.png", case)
        images, generator = load(folder), torch.Generator().manual_seed(0)
        rows = [torch.arange(len(images.train))]
        options = {"train": False, "generator": generator, "num_workers": 1, "pin_memory": False}
        return [x_BCHW.shape for x_BCHW, _ in images.train.read_batches(rows, **options)]

    check("image folder", files(png(0)), parse, examples=60)
