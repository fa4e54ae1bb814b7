import random

import numpy as np
import pytest
from PIL import Image

from nasray.data.decoding import decode_centre_crop, decode_random_crop, decode_whole, random_crop_box


@pytest.fixture
def gradient(tmp_path):
    """A smooth 512 x 384 image: red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, 512), np.linspace(0, 255, 384))
    pixels = np.stack([red, green, np.zeros_like(red)], axis=-1).round().astype(np.uint8)
    path = tmp_path / "gradient.jpeg"
    Image.fromarray(pixels).save(path, quality=98, subsampling=0)
    return path


def test_centre_crop_agrees_with_resizing_then_cropping(gradient):
    resolution, short_side = 28, 32  # 28 = 0.875 x 32
    image = Image.open(gradient).convert("RGB")
    width = round(512 * short_side / 384)
    resized = image.resize((width, short_side), Image.Resampling.BILINEAR)
    left, upper = (width - resolution) // 2, (short_side - resolution) // 2
    expected = np.asarray(resized.crop((left, upper, left + resolution, upper + resolution)), dtype=float)
    actual = decode_centre_crop(gradient, resolution).astype(float)
    assert actual.shape == (resolution, resolution, 3)
    assert np.abs(actual - expected).max() < 6  # half a pixel of the small image is 3 grey levels


def test_random_crop_is_the_box_that_was_drawn(gradient):
    left, upper, right, lower = random_crop_box(512, 384, random.Random(5))
    crop = decode_random_crop(gradient, 16, random.Random(5)).astype(float)
    assert crop[..., 0].mean() == pytest.approx(255 * (left + right) / 2 / 512, abs=2)
    assert crop[..., 1].mean() == pytest.approx(255 * (upper + lower) / 2 / 384, abs=2)


def test_random_crop_boxes_keep_to_the_ranges():
    rng = random.Random(0)
    for _ in range(300):
        left, upper, right, lower = random_crop_box(500, 375, rng)
        assert 0 <= left < right <= 500
        assert 0 <= upper < lower <= 375
        assert 0.078 < (right - left) * (lower - upper) / (500 * 375) <= 1
        assert 0.73 < (right - left) / (lower - upper) < 1.37


@pytest.mark.parametrize(("size", "expected"), [((1000, 10), (13.3, 10)), ((10, 1000), (10, 13.3))])
def test_random_crop_of_a_strip_falls_back_to_its_centre(size, expected):
    boxes = [random_crop_box(*size, random.Random(seed)) for seed in range(50)]
    fallback = [box for box in boxes if box[0] + box[2] == size[0] and box[1] + box[3] == size[1]]
    assert fallback
    assert (fallback[0][2] - fallback[0][0], fallback[0][3] - fallback[0][1]) == pytest.approx(expected, abs=0.1)


def test_crop_of_one_pixel_works(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path)
    assert decode_random_crop(path, 4, random.Random(0)).tolist() == [[[1, 2, 3]] * 4] * 4
    assert decode_centre_crop(path, 4).tolist() == [[[1, 2, 3]] * 4] * 4


def test_decode_whole_keeps_the_size(encode):
    assert decode_whole(encode(1, (5, 7), "JPEG")).shape == (7, 5, 3)
