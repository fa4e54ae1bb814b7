"""Image data sets for `--data`: read, cut into train, holdout and test, and delivered in batches."""

from nasray.data.batches import Batches
from nasray.data.errors import DataError
from nasray.data.image_data import ImageData
from nasray.data.load import load_image_data
from nasray.data.splits import Split

__all__ = ["Batches", "DataError", "ImageData", "Split", "load_image_data"]
