"""Read labels and encoded images from parquet files in Hugging Face's layout, refusing damaged ones in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nasray.data.errors import DataError

_FILE_NAME = re.compile(r"(?P<part>train|test)(-\d{5}-of-(?P<num_shards>\d{5})(-[0-9a-f]+)?)?\.parquet")


def part_files(root: Path, part: str) -> list[Path]:
    """Return the files of one part in `root`: `<part>.parquet`, or shards named like `<part>-00000-of-00001.parquet`.

    Parquet files with other names hold something else and are left alone.
    """
    matches = ((path, _FILE_NAME.fullmatch(path.name)) for path in root.glob("*.parquet"))
    return sorted(path for path, match in matches if match and match["part"] == part)


def check_shards(root: Path, part: str, files: Sequence[Path]) -> None:
    """Raise a DataError unless `files` are one whole file or one complete set of shards."""
    num_shards = {int(match["num_shards"] or 1) for path in files if (match := _FILE_NAME.fullmatch(path.name))}
    if num_shards != {len(files)}:
        raise DataError(
            f"`{root}` must hold {part}.parquet or one complete set of {part}-00000-of-*.parquet, "
            f"got {', '.join(path.name for path in files) or 'neither'}. "
            "Download what is missing, or remove the surplus."
        )


def read_schema(path: Path) -> pa.Schema:
    """Return the columns of a file."""
    with _damage_explained(path):
        return pq.read_schema(path)


def image_column(path: Path, schema: pa.Schema) -> str:
    """Return the name of the column that holds encoded images."""
    return _find_column(path, schema, ("img", "image"), _holds_bytes, "encoded images, {bytes, path}")


def label_column(path: Path, schema: pa.Schema) -> str:
    """Return the name of the column that holds labels; the fine ones of CIFAR-100."""
    return _find_column(path, schema, ("fine_label", "label"), pa.types.is_integer, "integer labels")


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Return the names of the classes of a label column, or nothing where the file does not tell them.

    They are in `huggingface` metadata, or in a plain JSON list under `class_names`.
    """
    metadata = schema.metadata or {}
    try:
        if b"huggingface" in metadata:
            names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        else:
            names = json.loads(metadata[b"class_names"])
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def read_labels(path: Path, column: str) -> Tensor:
    """Return the labels of one file, int64 of shape (N,)."""
    with _damage_explained(path):
        labels = pq.read_table(path, columns=[column]).column(column)
    if labels.null_count:
        raise DataError(
            f"`{column}` in {path} must hold a label in every row, got {labels.null_count} empty ones. "
            "Use a labelled copy of the data set."
        )
    return torch.tensor(labels.to_numpy(), dtype=torch.int64)


def row_group_sizes(path: Path) -> list[int]:
    """Return the number of rows of each row group."""
    with _damage_explained(path):
        metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def read_images(path: Path, column: str, *, row_group: int, rows: Sequence[int]) -> list[tuple[str, bytes | None]]:
    """Return name and encoded image of some rows of a row group; None where a row holds no bytes."""
    with _damage_explained(path):
        # The reader is closed here and not shared, so that the part can be used from several processes.
        with pq.ParquetFile(path) as file:
            images = file.read_row_group(row_group, columns=[column]).column(column)
        values = images.take(pa.array(rows, type=pa.int64())).to_pylist()
    return [_name_and_bytes(value) for value in values]


def _name_and_bytes(value: Any) -> tuple[str, bytes | None]:
    if isinstance(value, dict):
        return value.get("path") or "", value.get("bytes")
    return "", value


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _find_column(
    path: Path, schema: pa.Schema, names: Sequence[str], is_right: Callable[[pa.DataType], bool], content: str
) -> str:
    for name in names:
        if name in schema.names and is_right(schema.field(name).type):
            return name
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise DataError(
        f"`{path}` must have a column {' or '.join(names)} of {content}, got {columns}. "
        "Use the data set's parquet files as published."
    )


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"`{path}` must be a complete parquet file, got: {reason} Download it again.") from error
