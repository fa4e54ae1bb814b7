import pickle

import pytest
import torch

from nasray.data import Batches, load_image_data
from nasray.data.augmentation import Augmentation


def _labels(batches):
    return [label for _, labels_B in batches for label in labels_B.tolist()]


def test_evaluation_covers_every_image_in_order(make_data):
    data = make_data(10)
    batches = Batches(data.test, data, batch_size=4)
    assert len(batches) == len(list(batches)) == 3
    assert _labels(batches) == list(range(10))


def test_images_are_normalised(make_data):
    data = make_data(10, channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    ((images_BCHW, labels_B),) = Batches(data.test, data, batch_size=10)
    assert (images_BCHW.dtype, labels_B.dtype) == (torch.float32, torch.int64)
    expected = (torch.arange(10)[:, None] / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    assert torch.allclose(images_BCHW[:, :, 1, 2], expected, atol=1e-6)
    assert data.test.images_NCHW[9].unique().tolist() == [9]  # untouched


def test_training_shuffles_and_drops_the_incomplete_batch(make_data):
    data = make_data(10)
    batches = Batches(data.train, data, batch_size=4, train=True)
    labels = _labels(batches)
    assert len(batches) == 2
    assert len(set(labels)) == len(labels) == 8
    assert labels != sorted(labels)


@pytest.mark.parametrize(("batch_size", "drop_last", "expected"), [(20, None, 1), (4, False, 3), (5, True, 2)])
def test_drop_last_can_be_chosen(make_data, batch_size, drop_last, expected):
    data = make_data(10)
    batches = Batches(data.train, data, batch_size=batch_size, train=True, drop_last=drop_last)
    assert len(batches) == len(list(batches)) == expected


def test_batches_depend_on_seed_and_epoch_only(make_data):
    data = make_data(30, side=8, augmentation=Augmentation(max_shift_px=2, flip=True))
    epochs = {
        (seed, epoch): list(Batches(data.train, data, batch_size=10, train=True, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    }
    resumed = Batches(data.train, data, batch_size=10, train=True, seed=0, epoch=1)
    for _ in range(2):  # iterating again is the same epoch again
        for (images_BCHW, labels_B), expected in zip(resumed, epochs[0, 1], strict=True):
            assert torch.equal(images_BCHW, expected[0])
            assert torch.equal(labels_B, expected[1])
    assert len({tuple(_labels(batches)) for batches in epochs.values()}) == 3


def test_folder_crops_do_not_depend_on_the_number_of_threads(image_folder):
    data = load_image_data(image_folder, resolution=8)
    one, four = (
        [images for images, _ in Batches(data.train, data, batch_size=6, train=True, num_workers=num_workers)]
        for num_workers in (1, 4)
    )
    assert all(torch.equal(*pair) for pair in zip(one, four, strict=True))


@pytest.mark.parametrize("train", [False, True])
def test_shards_are_disjoint_and_of_one_size(make_data, train):
    data = make_data(11)
    shards = [
        _labels(Batches(data.train, data, batch_size=2, train=train, drop_last=False, rank=rank, world_size=3))
        for rank in range(3)
    ]
    assert [len(shard) for shard in shards] == [3, 3, 3]
    assert len(set().union(*shards)) == 9


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.filterwarnings("ignore:Skipping")
def test_processes_that_train_together_take_equal_steps_whatever_cannot_be_read(image_folder, rank):
    """One of a batch is damaged, and all of another one, the first of its process or a later one."""
    data = load_image_data(image_folder, resolution=8, holdout=0)

    def batches(number):
        return Batches(data.train, data, batch_size=2, train=True, rank=number, world_size=2, num_workers=1)

    rows = batches(rank)._rows()
    for index in (*rows[0].tolist(), int(rows[1][0])) if rank else (*rows[1].tolist(), int(rows[0][0])):
        (data.train.root / data.train.paths[index]).write_bytes(b"damaged")
    sizes = [[len(labels) for _, labels in batches(number)] for number in (0, 1)]
    assert sizes[0] == sizes[1] == [2] * len(rows)
    # Alone, what cannot be read is missing.
    alone = Batches(data.train, data, batch_size=2, train=True, num_workers=1)
    assert sum(len(labels) for _, labels in alone) == len(data.train) // 2 * 2 - 3


def test_channels_last_changes_the_layout_alone(make_data, image_folder):
    for data in (make_data(6, channels=3), load_image_data(image_folder, resolution=8)):
        for channels_last in (False, True):
            images_BCHW, _ = next(iter(Batches(data.test, data, batch_size=2, channels_last=channels_last)))
            assert images_BCHW.shape[:2] == (2, 3)
            assert images_BCHW.is_contiguous() is not channels_last
            assert images_BCHW.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_data_survives_pickling(make_data):
    data = make_data(5)
    assert pickle.loads(pickle.dumps(data)).describe() == data.describe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"batch_size": 11, "drop_last": True}, "`batch_size` must be at most 10, .* got 11"),
        ({"epoch": -1}, "`epoch` must be at least 0, got -1"),
        ({"rank": 2, "world_size": 2}, r"`rank` must be within 0\.\.1, got 2"),
        ({"world_size": 11}, "`split` must hold an image for each of 11 processes, got 10"),
        ({"num_workers": -1}, "`num_workers` must be at least 0, got -1"),
    ],
)
def test_options_that_cannot_be_met_raise(make_data, options, message):
    data = make_data(10)
    with pytest.raises(ValueError, match=message):
        Batches(data.test, data, **({"batch_size": 2} | options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a",)}, "`class_names` must hold 10 names, got 1"),
        ({"mean": (0.0, 0.0)}, "`mean` and `std` must hold one value for each of the 1 channels"),
        ({"std": (0.0,)}, r"`std` must be positive, got \(0.0,\)"),
    ],
)
def test_malformed_data_raises(make_data, changes, message):
    with pytest.raises(ValueError, match=message):
        make_data(10, **changes)
