import json

import pytest
import torch

from nasray.data import DataError, load_image_data
from nasray.data.digits import DIGITS_MEAN, DIGITS_STD
from nasray.data.memory import channel_statistics


def test_digits_are_the_default_and_say_so():
    data = load_image_data(None)
    assert data.name == "digits"
    assert "handwritten digits" in data.notice
    assert (len(data.train), len(data.holdout), len(data.test)) == (1079, 269, 449)
    assert (data.num_classes, data.channels, data.resolution) == (10, 1, 8)
    assert (data.augmentation.max_shift_px, data.augmentation.flip) == (1, False)


def test_digits_statistics_are_those_of_the_images():
    data = load_image_data(None)
    mean, std = channel_statistics(data.train)
    assert mean == pytest.approx(DIGITS_MEAN, abs=0.005)
    assert std == pytest.approx(DIGITS_STD, abs=0.005)


def test_digits_seed_moves_the_holdout_but_not_the_test_part():
    first, second, again = (load_image_data(None, seed=seed) for seed in (0, 1, 0))
    assert torch.equal(first.test.images_NCHW, second.test.images_NCHW)
    assert not torch.equal(first.holdout.images_NCHW, second.holdout.images_NCHW)
    assert first.fingerprint() == again.fingerprint() != second.fingerprint()


def test_digits_can_be_resized_once():
    data = load_image_data(None, resolution=32, max_train=100, max_test=50)
    assert data.train.images_NCHW.shape == (80, 1, 32, 32)
    assert (len(data.holdout), len(data.test), data.augmentation.max_shift_px) == (20, 50, 4)


def test_digits_can_do_without_a_holdout():
    assert load_image_data(None, holdout=0, resolution=16).holdout.images_NCHW.shape == (0, 1, 16, 16)


def test_describe_is_json():
    summary = json.loads(json.dumps(load_image_data(None, max_train=50).describe()))
    assert (summary["num_train"], summary["num_holdout"], summary["num_skipped_images"]) == (40, 10, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 1348}, r"`holdout` must be smaller than .* 1,348, got 1,348"),
        ({"holdout": -1}, "`holdout` must be at least 0, got -1"),
        ({"max_train": 9}, "`max_train` must be at least the number of classes, 10, got 9"),
        ({"max_test": 0}, "`max_test` must be at least 1, got 0"),
        ({"resolution": 0}, "`resolution` must be at least 1, got 0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
)
def test_options_that_cannot_be_met_raise(options, message):
    with pytest.raises(DataError, match=message):
        load_image_data(None, **options)
