import pickle
import shutil

import pytest
from PIL import Image

from nasray.data import Batches, DataError, load_image_data


def test_folder_is_listed_without_reading(image_folder):
    data = load_image_data(image_folder)
    assert (data.name, data.num_classes, data.channels, data.resolution) == ("imagenet-folder", 3, 3, 224)
    assert (len(data.train), len(data.holdout), len(data.test)) == (24, 6, 12)
    assert data.class_names == ("n01", "n02", "n03")
    assert data.test.labels_N.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert not set(data.train.paths) & set(data.holdout.paths)


@pytest.mark.parametrize("train", [False, True])
def test_every_image_arrives_with_its_label(image_folder, train):
    data = load_image_data(image_folder, resolution=16)
    batches = Batches(data.train, data, batch_size=5, train=train, drop_last=False, num_workers=2)
    labels = []
    for images_BCHW, labels_B in batches:
        assert images_BCHW.shape[1:] == (3, 16, 16)
        assert images_BCHW.mean(dim=(2, 3)).argmax(dim=1).tolist() == labels_B.tolist()
        labels += labels_B.tolist()
    assert sorted(labels) == data.train.labels_N.tolist()


def test_other_files_are_left_alone(image_folder):
    (image_folder / "train/n01/readme.txt").write_text("notes")
    (image_folder / "train/n01/._0.JPEG").write_text("notes")
    (image_folder / "train/notes.txt").write_text("notes")
    assert sum(map(len, (load_image_data(image_folder).train, load_image_data(image_folder).holdout))) == 30


def test_corrupt_images_are_skipped_and_named(image_folder):
    (image_folder / "val/n01/0.JPEG").write_bytes(b"not an image")
    whole = (image_folder / "val/n02/1.JPEG").read_bytes()
    (image_folder / "val/n02/1.JPEG").write_bytes(whole[: len(whole) // 2])
    data = load_image_data(image_folder, resolution=8)
    assert data.describe()["num_skipped_images"] == 0
    batches = Batches(data.test, data, batch_size=4, num_workers=2)
    with pytest.warns(UserWarning, match=r"Skipping \d unreadable image\(s\) found so far: val/n01/0.JPEG"):
        sizes = [len(labels_B) for _, labels_B in batches]
    assert sizes == [3, 3, 4]
    assert [len(labels_B) for _, labels_B in batches] == sizes  # without a second warning
    assert data.skipped_images == ("val/n01/0.JPEG", "val/n02/1.JPEG")


def test_batch_of_corrupt_images_is_left_out(image_folder):
    for path in (image_folder / "val/n01").iterdir():
        path.write_bytes(b"")
    data = load_image_data(image_folder, resolution=8)
    with pytest.warns(UserWarning, match="unreadable"):
        batches = list(Batches(data.test, data, batch_size=4))
    assert [labels_B.tolist() for _, labels_B in batches] == [[1] * 4, [2] * 4]


def test_only_corrupt_images_raise(image_folder):
    for path in (image_folder / "val").glob("*/*"):
        path.write_bytes(b"")
    data = load_image_data(image_folder, resolution=8)
    with (
        pytest.warns(UserWarning, match="unreadable"),
        pytest.raises(DataError, match="val` must hold readable images, got only unreadable ones"),
    ):
        list(Batches(data.test, data, batch_size=4))


def test_grey_and_palette_images_become_rgb(image_folder):
    Image.new("L", (20, 20), 7).save(image_folder / "val/n01/grey.png")
    Image.new("P", (20, 20)).save(image_folder / "val/n01/palette.png")
    Image.new("CMYK", (20, 20)).save(image_folder / "val/n01/cmyk.JPEG")
    data = load_image_data(image_folder, resolution=8)
    assert sum(len(labels_B) for _, labels_B in Batches(data.test, data, batch_size=4)) == 15
    assert not data.skipped_images


def test_folder_survives_pickling(image_folder):
    data = pickle.loads(pickle.dumps(load_image_data(image_folder, resolution=8)))
    assert len(list(Batches(data.test, data, batch_size=4))) == 3


def test_folder_absent_on_a_worker_raises(image_folder):
    data = load_image_data(image_folder)
    shutil.rmtree(image_folder)
    with pytest.raises(DataError, match="must be a folder on every machine that reads it"):
        next(iter(Batches(data.test, data, batch_size=4)))


@pytest.mark.parametrize("part", ["train", "val"])
def test_missing_part_raises(image_folder, part):
    shutil.rmtree(image_folder / part)
    with pytest.raises(DataError, match=rf"{part}` must hold one folder of images per class, got no such folder"):
        load_image_data(image_folder)


def test_val_without_class_folders_raises(image_folder):
    shutil.rmtree(image_folder / "val")
    (image_folder / "val").mkdir()
    (image_folder / "val/ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match="val` must hold one folder of images per class, got none"):
        load_image_data(image_folder)


def test_class_that_only_val_has_raises(image_folder):
    (image_folder / "val/n99").mkdir()
    with pytest.raises(DataError, match=r"val` must hold classes of .*train only, got n99"):
        load_image_data(image_folder)


def test_empty_class_raises(image_folder):
    shutil.rmtree(image_folder / "train/n02")
    (image_folder / "train/n02").mkdir()
    with pytest.raises(DataError, match=r"Every class folder of .*train` must hold images .* got none in n02"):
        load_image_data(image_folder)


def test_empty_val_raises(image_folder):
    for path in (image_folder / "val").glob("*/*"):
        path.unlink()
    with pytest.raises(DataError, match="test part must hold at least one image, got none"):
        load_image_data(image_folder)
