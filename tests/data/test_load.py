import subprocess
import sys

import pytest

from nasray.data import DataError, load_image_data


def test_missing_path_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere` must be a folder, got nothing of that name\. Name a folder that holds"
    ):
        load_image_data(tmp_path / "nowhere")


def test_file_instead_of_folder_raises(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="must be a folder, got a file"):
        load_image_data(tmp_path / "train.parquet")


def test_empty_folder_raises(tmp_path):
    with pytest.raises(DataError, match="must hold a known layout, got an empty folder"):
        load_image_data(tmp_path)


def test_unknown_layout_says_which_are_understood(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"got images.zip\. .*data_batch_1.*train\*.parquet.*train/<class>/\*.JPEG"):
        load_image_data(str(tmp_path))


def test_loading_leaves_torchvision_alone(tmp_path):
    program = "import sys, nasray.data; nasray.data.load_image_data(None); assert 'torchvision' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
