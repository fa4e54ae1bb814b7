import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from nasray.data import DataError, decoding, load_image_data

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LABELS = [row % 10 for row in range(40)]


@pytest.fixture
def folder(tmp_path, write_parquet):
    write_parquet(tmp_path / "train.parquet", LABELS)
    write_parquet(tmp_path / "test.parquet", LABELS[:20])
    return tmp_path


def _pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded))).transpose(2, 0, 1)


def test_parquet_images_and_labels_stay_together(folder, encode):
    data = load_image_data(folder)
    assert (data.name, data.num_classes, data.resolution) == ("cifar10", 10, 8)
    assert (len(data.train), len(data.holdout), len(data.test)) == (32, 8, 20)
    assert data.test.labels_N.tolist() == LABELS[:20]
    for row, image_CHW in enumerate(data.test.images_NCHW):
        np.testing.assert_array_equal(image_CHW.numpy(), _pixels(encode(row)))


def test_other_parquet_files_are_left_alone(folder, write_parquet):
    for name in ("subset_train_10.parquet", "train_first.parquet", "test_2.parquet", "mytrain.parquet"):
        write_parquet(folder / name, LABELS)
    data = load_image_data(folder)
    assert (len(data.train) + len(data.holdout), len(data.test)) == (40, 20)


def test_shards_below_the_folder_are_joined_in_order(tmp_path, write_parquet):
    (tmp_path / "plain_text").mkdir()
    names = (
        "train-00000-of-00002.parquet",
        "train-00001-of-00002-640ee37d788fde22.parquet",
        "test-00000-of-00001.parquet",
    )
    for start, name in enumerate(names):
        write_parquet(tmp_path / "plain_text" / name, LABELS[10 * start :], class_names=CIFAR10_NAMES)
    data = load_image_data(tmp_path, holdout=0, max_train=70)
    assert data.class_names == tuple(CIFAR10_NAMES)
    assert data.train.labels_N.tolist() == LABELS + LABELS[10:]


def test_incomplete_shards_raise(tmp_path, write_parquet):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", LABELS)
    with pytest.raises(
        DataError, match=r"one complete set of train-00000-of-\*.parquet, got train-00000-of-00002.parquet"
    ):
        load_image_data(tmp_path)


def test_only_chosen_images_are_decoded(folder, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        decoding, "decode_whole", lambda encoded: decoded.append(encoded) or np.zeros((8, 8, 3), np.uint8)
    )
    data = load_image_data(folder, max_train=20, max_test=5)
    assert (len(data.train), len(data.holdout), len(data.test), len(decoded)) == (16, 4, 5, 25)


def test_fine_labels_are_cifar100(tmp_path, write_parquet):
    labels = list(range(100)) * 2
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", labels, columns=("img", "fine_label"))
    data = load_image_data(tmp_path, max_test=100)
    assert (data.name, data.num_classes, data.notice) == ("cifar100", 100, None)
    assert sorted(data.test.labels_N.tolist()) == list(range(100))


def test_unknown_images_are_measured_and_announced(tmp_path, write_parquet):
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", LABELS, columns=("image", "label"))
    data = load_image_data(tmp_path)
    assert data.name == "parquet"
    assert "neither CIFAR-10 nor CIFAR-100" in data.notice
    pixels = data.train.images_NCHW.double() / 255
    assert data.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-5)
    assert data.std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), abs=1e-5)


def test_corrupt_images_are_skipped_and_named(folder, write_parquet, encode):
    damaged = {3: b"not an image", 5: encode(5)[:-40], 6: None}
    write_parquet(folder / "test.parquet", LABELS[:20], images=damaged)
    with pytest.warns(UserWarning, match=r"Skipping 3 unreadable image\(s\) found so far: test.parquet image 3 3.png"):
        data = load_image_data(folder)
    assert data.test.labels_N.tolist() == [label for row, label in enumerate(LABELS[:20]) if row not in damaged]
    assert data.describe()["num_skipped_images"] == 3


def test_postscript_is_not_interpreted(folder, write_parquet):
    write_parquet(folder / "test.parquet", [0, 1], images={0: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"})
    with pytest.warns(UserWarning, match="Skipping 1 unreadable"):
        assert len(load_image_data(folder).test) == 1


def test_only_corrupt_images_raise(folder, write_parquet):
    write_parquet(folder / "train.parquet", LABELS, images=dict.fromkeys(range(40), b"damaged"))
    with (
        pytest.warns(UserWarning, match="Skipping 32 unreadable"),
        pytest.raises(DataError, match="got none that can be decoded among 32"),
    ):
        load_image_data(folder)


@pytest.mark.parametrize("size", [(8, 9), (16, 16)])
def test_images_of_other_sizes_raise(folder, write_parquet, encode, size):
    write_parquet(folder / "test.parquet", LABELS, images={2: encode(2, size)})
    with pytest.raises(
        DataError, match=rf"must be squares of one size, got {size[0]}x{size[1]} for test.parquet image 2"
    ):
        load_image_data(folder)


def test_missing_part_raises(folder):
    (folder / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"must hold test.parquet or one complete set of .* got neither"):
        load_image_data(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"label": [0, 1]}, r"must have a column img or image of encoded images.* got label \(int64\)"),
        ({"img": [b"", b""]}, r"must have a column fine_label or label of integer labels, got img \(binary\)"),
        ({"img": [b"", b""], "label": ["cat", "dog"]}, "must have a column fine_label or label of integer labels"),
        ({"img": [b"", b""], "label": [0, None]}, "`label` in .* must hold a label in every row, got 1 empty"),
        ({"img": [b"", b""], "label": [0, 10**12]}, "`label` in .* must number the classes from 0, got 1000000000000"),
        ({"img": [b"", b""], "label": [0, -1]}, r"labels of the training part must be within 0\.\.0, got -1\.\.0"),
    ],
)
def test_malformed_table_is_one_sentence(folder, table, message):
    pq.write_table(pa.table(table), folder / "train.parquet")
    with pytest.raises(DataError, match=message):
        load_image_data(folder)


def test_test_labels_beyond_the_training_classes_raise(folder, write_parquet):
    write_parquet(folder / "test.parquet", [0, 10])
    with pytest.raises(DataError, match=r"labels of the test part must be within 0\.\.9, got 0\.\.10"):
        load_image_data(folder)


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"PAR1", lambda content: b""])
def test_truncated_file_is_one_sentence(folder, damage):
    path = folder / "train.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train.parquet` must be a complete parquet file, got: .* Download it again"):
        load_image_data(folder)


def test_damage_within_the_file_is_one_sentence(folder):
    path = folder / "train.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 3000 + content[3004:])
    with pytest.raises(DataError, match=r"train.parquet` must be a complete parquet file"):
        load_image_data(folder)


def test_images_are_resized_once(folder):
    data = load_image_data(folder, resolution=12)
    assert data.train.images_NCHW.shape == (32, 3, 12, 12)
    assert data.train.images_NCHW.dtype == torch.uint8
