"""Decode images with Pillow, to square RGB arrays of shape (H, W, 3), uint8.

Only raster formats that Pillow decodes itself are opened: others (EPS, for one) would start an external program.
"""

from __future__ import annotations

import io
import math
import os
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")

# What Pillow raises on damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

# Szegedy et al. 2015 (arXiv:1409.4842), section 6: area and aspect ratio of the crops.
_AREA_RANGE = (0.08, 1.0)
_RATIO_RANGE = (3 / 4, 4 / 3)
_NUM_CROP_ATTEMPTS = 10

# The usual evaluation: short side to 256, centre crop of 224.
_CENTRE_FRACTION = 0.875

_MAX_CHOSEN_WORKERS = 16

Box = tuple[float, float, float, float]


def decoding_workers() -> int:
    """Return how many decoding threads suit this machine: one per CPU that this process may use, up to 16."""
    num_cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(num_cpus, _MAX_CHOSEN_WORKERS)


def decode_whole(encoded: bytes) -> np.ndarray:
    """Return the RGB image that `encoded` holds, at its own size."""
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        return np.asarray(image.convert("RGB"))


def decode_random_crop(path: Path, resolution: int, rng: random.Random) -> np.ndarray:
    """Return a random crop of an image file, resized to `resolution` and mirrored half of the time.

    Source: Szegedy et al. 2015 (arXiv:1409.4842), section 6. Deviation: the first of ten draws that fits, else the
    largest central crop within the range of aspect ratios, as is now customary; one interpolation, bilinear.
    """
    with Image.open(path, formats=FORMATS) as image:
        cropped = _resize_box(image, random_crop_box(*image.size, rng), resolution)
    return np.asarray(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cropped)


def decode_centre_crop(path: Path, resolution: int) -> np.ndarray:
    """Return the central 87.5 % of an image file's short side, resized to `resolution`.

    That is resizing the short side to `resolution` / 0.875 and cropping the centre, done in one step.
    """
    with Image.open(path, formats=FORMATS) as image:
        side = _CENTRE_FRACTION * min(image.size)
        return np.asarray(_resize_box(image, _centre_box(*image.size, side, side), resolution))


def random_crop_box(width: int, height: int, rng: random.Random) -> Box:
    """Return the left, upper, right and lower edge of a random crop, in pixels of an image of `width` x `height`."""
    low, high = (math.log(ratio) for ratio in _RATIO_RANGE)
    for _ in range(_NUM_CROP_ATTEMPTS):
        area = width * height * rng.uniform(*_AREA_RANGE)
        ratio = math.exp(rng.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, upper = rng.randint(0, width - crop_width), rng.randint(0, height - crop_height)
            return left, upper, left + crop_width, upper + crop_height
    return _centre_box(width, height, min(width, height * _RATIO_RANGE[1]), min(height, width / _RATIO_RANGE[0]))


def _centre_box(width: float, height: float, crop_width: float, crop_height: float) -> Box:
    left, upper = (width - crop_width) / 2, (height - crop_height) / 2
    return left, upper, left + crop_width, upper + crop_height


def _resize_box(image: Image.Image, box: Box, resolution: int) -> Image.Image:
    """Resize `box` of `image` to a square of `resolution`, decoding a JPEG at 1/2, 1/4 or 1/8 where that is enough."""
    width, height = image.size
    shrink = max(1.0, min(box[2] - box[0], box[3] - box[1]) / resolution)
    image.draft("RGB", (math.ceil(width / shrink), math.ceil(height / shrink)))
    scale_x, scale_y = image.width / width, image.height / height
    scaled = (box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y)
    return image.convert("RGB").resize((resolution, resolution), Image.Resampling.BILINEAR, box=scaled)
