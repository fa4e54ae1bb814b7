"""Real images in the folder that NASRAY_DATA names: parquet files of CIFAR-10, and others beside them, in cifar10/."""

import os
from pathlib import Path

import pytest
import torch

from nasray.data import Batches, load_image_data

pytestmark = pytest.mark.data


@pytest.fixture
def cifar10_root():
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    root = Path(os.environ["NASRAY_DATA"]) / "cifar10"
    if not root.is_dir():
        pytest.skip(f"NASRAY_DATA has no folder {root.name}")
    return root


def test_cifar10_parquet_is_complete(cifar10_root):
    data = load_image_data(cifar10_root)
    assert (data.name, data.resolution, data.notice) == ("cifar10", 32, None)
    assert torch.bincount(data.train.labels_N).tolist() == [4500] * 10
    assert torch.bincount(data.holdout.labels_N).tolist() == [500] * 10
    assert torch.bincount(data.test.labels_N).tolist() == [1000] * 10
    assert data.class_names[:2] == ("airplane", "automobile")
    assert not data.skipped_images


def test_cifar10_batches_are_normalised(cifar10_root):
    data = load_image_data(cifar10_root, max_train=2000, max_test=2000)
    assert (len(data.train), len(data.holdout)) == (1600, 400)
    ((images_BCHW, _),) = Batches(data.test, data, batch_size=2000)
    assert images_BCHW.mean().item() == pytest.approx(0, abs=0.1)
    assert images_BCHW.std().item() == pytest.approx(1, abs=0.1)
