"""One part, train or test, of a data set in parquet files: labels at once, images decoded when chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasray.data import decoding, parquet_files
from nasray.data.errors import DataError
from nasray.data.skipped import SkippedImages
from nasray.data.splits import MemorySplit

_IMAGES_PER_TASK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ParquetPart:
    """Labels of one part and where its encoded images are.

    Attributes:
        files: One file, or its shards in order.
        image_column: Column that holds the encoded images.
        label_column: Column that holds the labels.
        class_names: Names of the classes where the files tell them, else empty.
        labels_N: Class of each image, int64.
        skipped: The images that could not be decoded so far.
    """

    files: tuple[Path, ...]
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    labels_N: Tensor
    skipped: SkippedImages = field(default_factory=SkippedImages)

    def subset(self, indices_N: Tensor) -> MemorySplit:
        """Decode the images at `indices_N`, which must ascend; skip those that cannot be decoded, with a warning.

        Raises:
            DataError: If none can be decoded, or they are not squares of one size.
        """
        images: list[np.ndarray] = []
        is_decoded: list[bool] = []
        for name, image_HWC in self._decoded(indices_N.numpy()):
            is_decoded.append(image_HWC is not None)
            if image_HWC is not None:
                _check_size(name, image_HWC, images[0] if images else image_HWC)
                images.append(image_HWC)
        self.skipped.warn_once()
        if len(indices_N) and not images:
            raise DataError(
                f"`{self.image_column}` in {self.files[0]} must hold images ({', '.join(decoding.FORMATS)}), "
                f"got none that can be decoded among {len(indices_N):,}. Obtain the data set again."
            )
        kept_N = indices_N[torch.tensor(is_decoded, dtype=torch.bool)]
        return MemorySplit(images_NCHW=_stack(images), labels_N=self.labels_N[kept_N], skipped=self.skipped)

    def _decoded(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield name and image of each row; None in place of an image that cannot be decoded."""
        with ThreadPoolExecutor(decoding.decoding_workers(), thread_name_prefix="nasray-decode") as pool:
            for encoded in self._encoded(rows):
                tasks = [encoded[i : i + _IMAGES_PER_TASK] for i in range(0, len(encoded), _IMAGES_PER_TASK)]
                for images in pool.map(self._decode_all, tasks):
                    yield from images

    def _encoded(self, rows: np.ndarray) -> Iterator[list[tuple[str, bytes | None]]]:
        """Yield names and encoded images of the chosen rows, one row group at a time."""
        start = 0
        for path in self.files:
            for group, num_rows in enumerate(parquet_files.row_group_sizes(path)):
                chosen = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + num_rows)]
                if len(chosen):
                    named = parquet_files.read_images(
                        path, self.image_column, row_group=group, rows=(chosen - start).tolist()
                    )
                    yield [
                        (f"{path.name} image {row} {name}".rstrip(), encoded)
                        for row, (name, encoded) in zip(chosen.tolist(), named, strict=True)
                    ]
                start += num_rows

    def _decode_all(self, encoded: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, np.ndarray | None]]:
        return [(name, self._decode(name, content)) for name, content in encoded]

    def _decode(self, name: str, content: bytes | None) -> np.ndarray | None:
        try:
            return decoding.decode_whole(content or b"")
        except decoding.UNREADABLE as error:
            self.skipped.add(name, error)
            return None


def read_part(root: Path, part: str) -> ParquetPart:
    """Read the labels of one part.

    Args:
        root: The folder that holds the parquet files.
        part: "train" or "test".

    Returns:
        The part, with its images still unread.

    Raises:
        DataError: If files or columns are missing or damaged.
    """
    files = parquet_files.part_files(root, part)
    parquet_files.check_shards(root, part, files)
    schema = parquet_files.read_schema(files[0])
    label_column = parquet_files.label_column(files[0], schema)
    return ParquetPart(
        files=tuple(files),
        image_column=parquet_files.image_column(files[0], schema),
        label_column=label_column,
        class_names=parquet_files.class_names(schema, label_column),
        labels_N=torch.cat([parquet_files.read_labels(path, label_column) for path in files]),
    )


def _check_size(name: str, image_HWC: np.ndarray, first_HWC: np.ndarray) -> None:
    height, width, _ = image_HWC.shape
    if height != width or image_HWC.shape != first_HWC.shape:
        raise DataError(
            f"Images in parquet files must be squares of one size, got {width}x{height} for {name} "
            f"and {first_HWC.shape[1]}x{first_HWC.shape[0]} for the first. "
            "Save them as an image folder: train/<class>/ and val/<class>/."
        )


def _stack(images: Sequence[np.ndarray]) -> Tensor:
    if not images:
        return torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
