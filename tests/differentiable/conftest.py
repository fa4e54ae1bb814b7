import pytest
import torch

from nasray.data.image_data import ImageData
from nasray.data.splits import MemorySplit
from nasray.spaces.multi_scale import MultiScaleSettings


def split(num_images, seed):
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_images) % 3
    images_NCHW = torch.randint(0, 100, (num_images, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images_NCHW[torch.arange(num_images), 0, labels_N] += 150  # a bright row tells the class
    return MemorySplit(images_NCHW=images_NCHW, labels_N=labels_N)


@pytest.fixture
def data():
    return ImageData(
        name="rows",
        train=split(24, 0),
        holdout=split(12, 1),
        test=split(6, 2),
        num_classes=3,
        channels=1,
        resolution=8,
        mean=(0.3,),
        std=(0.2,),
        class_names=("a", "b", "c"),
    )


@pytest.fixture
def settings():
    return MultiScaleSettings(
        num_nodes=2, scales=2, layers=3, exits=2, channels=4, num_classes=3, in_channels=1, resolution=8
    )
