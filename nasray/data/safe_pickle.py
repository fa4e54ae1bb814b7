"""Unpickle the published CIFAR batches without letting the file run code."""

import io
import pickle
from pathlib import Path

import numpy as np

from nasray.data.errors import DataError

_RECONSTRUCT = np.empty(0).__reduce__()[0]


class _ForbiddenGlobalError(Exception):
    """A pickle asks for something other than a NumPy array."""


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes; other codecs would be looked up and imported."""
    if encoding != "latin1":
        raise _ForbiddenGlobalError(f"the codec {encoding!r}")
    return text.encode("latin1")


_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED_GLOBALS[module, name]
        except KeyError:
            raise _ForbiddenGlobalError(f"{module}.{name}") from None


def read_array_pickle(path: Path) -> dict[str, object]:
    """Read a pickled dictionary of lists, strings and NumPy arrays; nothing else is ever constructed or called.

    Args:
        path: A file such as `data_batch_1`, written by Python 2 or 3.

    Returns:
        The dictionary, with text decoded as latin1.

    Raises:
        DataError: If the file is missing, truncated, not a pickle, or asks for anything else to be imported.
    """
    if not path.is_file():
        raise DataError(f"`{path}` must be a file, got nothing of that name. Extract the published archive again.")
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except _ForbiddenGlobalError as error:
        raise DataError(
            f"`{path}` must hold NumPy arrays only, got a pickle that asks for {error}. "
            "Nothing was run; obtain the file from its publisher."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"`{path}` must be a complete pickle, got {type(error).__name__}: {error}. "
            "Extract the published archive again."
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"`{path}` must hold a dictionary, got {type(content).__name__}. Extract the published archive again."
        )
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
