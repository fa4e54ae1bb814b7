import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from nasray.data import Batches, DataError
from nasray.data.from_dataset import image_data

VALUES = torch.arange(40 * 3 * 6 * 6, dtype=torch.int64).remainder(251).to(torch.uint8).view(40, 3, 6, 6)
LABELS = torch.arange(40) % 4


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def as_pil(values):
    return Image.fromarray(values.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "convert",
    [lambda v: v, lambda v: v.permute(1, 2, 0).numpy(), lambda v: v.float() / 255, as_pil],
    ids=["uint8 tensor", "array, channels last", "floats", "PIL"],
)
def test_images_come_through_in_every_form(convert):
    dataset = Items([(convert(values), label) for values, label in zip(VALUES, LABELS.tolist(), strict=True)])
    data = image_data(dataset, dataset, name="mine", holdout=8)
    assert (len(data.train), len(data.holdout), len(data.test)) == (32, 8, 40)
    assert (data.num_classes, data.channels, data.resolution, data.class_names) == (4, 3, 6, ("0", "1", "2", "3"))
    assert torch.equal(data.test.images_NCHW, VALUES) and torch.equal(data.test.labels_N, LABELS)


def test_grey_images_and_other_sizes():
    dataset = TensorDataset(VALUES[:, 0], LABELS)
    data = image_data(dataset, dataset, resolution=12, max_train=20, class_names=list("abcd"))
    assert (data.channels, data.resolution, len(data.train) + len(data.holdout)) == (1, 12, 20)
    assert data.class_names == ("a", "b", "c", "d")


def test_shifts_and_labels_are_as_told():
    dataset = TensorDataset(VALUES, LABELS + 1)
    data = image_data(dataset, dataset, class_names=list("abcde"), shift_fraction=0)
    assert (data.num_classes, data.augmentation.max_shift_px) == (5, 0)
    assert image_data(dataset, dataset, class_names=list("abcde"), shift_fraction=0.01).augmentation.max_shift_px == 1
    with pytest.raises(DataError, match="`shift_fraction` must be from 0 to 1, got 2"):
        image_data(dataset, dataset, class_names=list("abcde"), shift_fraction=2)
    with pytest.raises(DataError, match="labels of the training part must be within"):
        image_data(dataset, dataset, class_names=list("abcd"))


def test_data_are_shown_in_a_line():
    dataset = TensorDataset(VALUES, LABELS)
    data = image_data(dataset, dataset, name="mine", holdout=8)
    assert repr(data) == "ImageData('mine': 32 train, 8 holdout, 40 test images of 3 x 6 x 6, 4 classes)"
    assert repr(data.train) == "MemorySplit(32 images)"


def test_the_formula_of_pixels_is_what_networks_are_trained_with():
    dataset = TensorDataset(VALUES, LABELS)
    data = image_data(dataset, dataset, holdout=8)
    mean, std = (
        torch.tensor([float(value) for value in part.split(" ", 1)[1].split(", ")]).view(1, 3, 1, 1)
        for part in data.pixel_formula.partition("by channel: ")[2].split("; ")
    )
    shown = next(iter(Batches(data.test, data, batch_size=40)))[0]
    torch.testing.assert_close(shown, (VALUES / 255 - mean) / std, atol=1e-4, rtol=1e-4)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "must be a map-style data set with at least one image"),
        ([(VALUES[0].float(), 0)], "Item 0 of `train` .* floats must be from 0 to 1"),
        ([(VALUES[0], 0.5)], "a label must be a whole number, got 0.5"),
        ([(VALUES[0].long(), 0)], "values must be uint8 or floats, got torch.int64"),
        ([(VALUES[0, 0, 0], 0)], "must have two or three dimensions, got 1"),
        ([(torch.zeros(4, 4, 4), 0)], "must have 1 or 3 channels"),
        ([VALUES[0]], "Item 0 of `train` must be an image with its label"),
        ([(VALUES[0], 0), (VALUES[0, :, :3], 1)], "must have one shape"),
        (
            [(VALUES[0], 1), (VALUES[0], 4)] * 9,
            "Labels must count from 0, got 1 to 4. Subtract 1, or name all 5 classes",
        ),
        ([(VALUES[0], -1)] * 3, "labels of the training part must be within"),
        ([(VALUES[0, :, :3], 0)] * 3, "must be square or `resolution` given, got 3 x 6 pixels"),
    ],
)
def test_items_that_are_no_images_are_told(items, message):
    with pytest.raises(DataError, match=message):
        image_data(Items(items), Items(items))
    with pytest.raises(DataError, match="must be a map-style data set"):
        image_data(Stream(), Stream())


def test_values_out_of_nan_are_told():
    items = Items([(np.full((4, 4), np.nan), 0)])
    with pytest.raises(DataError, match="floats must be from 0 to 1, got nan"):
        image_data(items, items)


@pytest.mark.parametrize("mode", ["P", "PA"])
def test_images_with_a_palette_are_taken_in_their_colours(mode):
    colours = torch.tensor([[250, 10, 20], [0, 200, 90]], dtype=torch.uint8)
    indices = torch.arange(36).remainder(2).view(6, 6)
    image = Image.fromarray(indices.to(torch.uint8).numpy(), mode="L")
    image.putpalette(colours.flatten().tolist())
    if mode == "PA":
        image = image.convert("PA")
    dataset = Items([(image, number % 2) for number in range(20)])
    data = image_data(dataset, dataset, holdout=4)
    assert image.mode == mode
    assert torch.equal(data.test.images_NCHW[0], colours[indices].permute(2, 0, 1))
