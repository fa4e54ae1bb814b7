import codecs
import os
import pickle
import subprocess

import numpy as np
import pytest

from nasray.data import DataError
from nasray.data.safe_pickle import read_array_pickle


class _Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data_batch_1"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_lists_and_bytes_are_read(path, protocol):
    content = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2], "names": [b"\xe9"]}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_array_pickle(path)
    assert read["labels"] == [1, 2]
    assert read["names"] == [b"\xe9"]
    np.testing.assert_array_equal(read["data"], content["data"])


def test_python_2_text_is_read(path):
    path.write_bytes(b"\x80\x02}U\x06labels]K\x07as.")
    assert read_array_pickle(path) == {"labels": [7]}


@pytest.mark.parametrize("function", [os.system, subprocess.call, eval])
def test_malicious_pickle_does_not_run(path, tmp_path, function):
    marker = tmp_path / "ran"
    command = f"open({str(marker)!r}, 'w')" if function is eval else f"touch {marker}"
    path.write_bytes(pickle.dumps({"data": _Call(function, command)}, protocol=2))
    with pytest.raises(DataError, match=r"must hold NumPy arrays only, got a pickle that asks for .*Nothing was run"):
        read_array_pickle(path)
    assert not marker.exists()


def test_other_codecs_are_not_looked_up(path):
    path.write_bytes(pickle.dumps({"data": _Call(codecs.encode, "text", "zip")}, protocol=2))
    with pytest.raises(DataError, match="asks for the codec 'zip'"):
        read_array_pickle(path)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-20], lambda content: b"not a pickle", lambda content: b""]
)
def test_damaged_pickle_is_one_sentence(path, damage):
    path.write_bytes(damage(pickle.dumps({"data": np.zeros(100)}, protocol=2)))
    with pytest.raises(DataError, match=r"must be a complete pickle, got .* Extract the published archive again"):
        read_array_pickle(path)


def test_other_content_is_refused(path):
    path.write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(DataError, match="must hold a dictionary, got list"):
        read_array_pickle(path)


def test_missing_file_is_named(path):
    with pytest.raises(DataError, match="data_batch_1` must be a file, got nothing"):
        read_array_pickle(path)
