import pickle

import numpy as np
import pytest
import torch

from nasray.data import DataError, load_image_data


def _rewrite(path, **changes):
    content = pickle.loads(path.read_bytes()) | changes
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("use_parent", [False, True])
def test_cifar10_is_read_from_its_folder_or_the_parent(cifar10_folder, use_parent):
    data = load_image_data(cifar10_folder.parent if use_parent else cifar10_folder)
    assert (data.name, data.num_classes, data.channels, data.resolution) == ("cifar10", 10, 3, 32)
    assert (len(data.train), len(data.holdout), len(data.test)) == (80, 20, 20)
    assert data.class_names[3] == "name3"
    assert data.mean == (0.4914, 0.4822, 0.4465)
    assert (data.augmentation.max_shift_px, data.augmentation.flip) == (4, True)


def test_cifar10_images_and_labels_stay_together(cifar10_folder):
    published = pickle.loads((cifar10_folder / "test_batch").read_bytes())
    test = load_image_data(cifar10_folder).test
    assert test.labels_N.tolist() == published["labels"]
    np.testing.assert_array_equal(test.images_NCHW.numpy().reshape(20, -1), published["data"])


def test_cifar100_uses_the_fine_labels(cifar100_folder):
    data = load_image_data(cifar100_folder, holdout=100)
    assert (data.name, data.num_classes, data.class_names[7]) == ("cifar100", 100, "fine7")
    assert torch.bincount(data.holdout.labels_N).tolist() == [1] * 100
    assert torch.bincount(data.train.labels_N).tolist() == [2] * 100


def test_cifar_without_its_meta_file_numbers_the_classes(cifar10_folder):
    (cifar10_folder / "batches.meta").unlink()
    assert load_image_data(cifar10_folder).class_names == tuple("0123456789")


def test_two_data_sets_in_one_folder_must_be_told_apart(cifar10_folder, cifar100_folder):
    with pytest.raises(DataError, match=r"must hold one data set, got CIFAR-10.*CIFAR-100.*Name the folder"):
        load_image_data(cifar10_folder.parent)


def test_of_many_data_sets_only_some_are_named(cifar10_folder, tmp_path):
    for number in range(7):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
        for file in cifar10_folder.iterdir():
            (tmp_path / "many" / str(number) / file.name).symlink_to(file)
    with pytest.raises(DataError, match=r"many/4, and 2 more\. Name the folder"):
        load_image_data(tmp_path / "many")


def test_missing_batch_is_named(cifar10_folder):
    (cifar10_folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4` must be a file"):
        load_image_data(cifar10_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros((20, 10), np.uint8)}, "`data` in .*test_batch must be a uint8 array of 3072 columns"),
        ({"data": None}, "`data` in .*test_batch must be .* got NoneType"),
        ({"labels": [0] * 19}, "`labels` in .*test_batch must be a list of 20 integers, got a list of 19"),
        ({"labels": ["cat"] * 20}, "`labels` in .*test_batch must be a list of 20 integers"),
        ({"labels": [10] * 20}, r"labels of the test part must be within 0\.\.9, got 10\.\.10"),
        ({"labels": [-1] * 20}, r"labels of the test part must be within 0\.\.9, got -1\.\.-1"),
    ],
)
def test_malformed_batch_is_one_sentence(cifar10_folder, changes, message):
    _rewrite(cifar10_folder / "test_batch", **changes)
    with pytest.raises(DataError, match=message):
        load_image_data(cifar10_folder)


def test_malformed_class_names_raise(cifar10_folder):
    _rewrite(cifar10_folder / "batches.meta", label_names=["cat"])
    with pytest.raises(DataError, match=r"`label_names` in .* must be a list of 10 names, got a list of 1"):
        load_image_data(cifar10_folder)
