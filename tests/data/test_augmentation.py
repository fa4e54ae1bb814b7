import pytest
import torch

from nasray.data.augmentation import Augmentation


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _images(batch_size=64, side=6):
    return torch.randint(1, 256, (batch_size, 3, side, side), dtype=torch.uint8, generator=_generator(9))


def test_no_augmentation_by_default():
    images_BCHW = _images()
    assert torch.equal(Augmentation()(images_BCHW, _generator()), images_BCHW)


def test_shift_gives_windows_of_the_padded_image_and_all_of_them():
    images_BCHW = _images(batch_size=200, side=4)
    padded = torch.nn.functional.pad(images_BCHW, (1, 1, 1, 1))
    shifted_BCHW = Augmentation(max_shift_px=1)(images_BCHW, _generator())
    seen = set()
    for index in range(200):
        windows = {(y, x): padded[index, :, y : y + 4, x : x + 4] for y in range(3) for x in range(3)}
        seen |= {offset for offset, window in windows.items() if torch.equal(window, shifted_BCHW[index])}
    assert len(seen) == 9


def test_flip_mirrors_about_half_of_the_images():
    images_BCHW = _images(batch_size=400)
    flipped_BCHW = Augmentation(flip=True)(images_BCHW, _generator())
    is_same = [torch.equal(*pair) for pair in zip(flipped_BCHW, images_BCHW, strict=True)]
    is_mirrored = [torch.equal(*pair) for pair in zip(flipped_BCHW, images_BCHW.flip(3), strict=True)]
    assert all(same != mirrored for same, mirrored in zip(is_same, is_mirrored, strict=True))
    assert 150 < sum(is_mirrored) < 250


def test_same_generator_same_augmentation():
    augment = Augmentation(max_shift_px=2, flip=True)
    first, again, other = (augment(_images(), _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_negative_shift_raises():
    with pytest.raises(ValueError, match="`max_shift_px` must be at least 0, got -1"):
        Augmentation(max_shift_px=-1)


def test_cutout_blackens_one_square_that_may_lie_partly_outside() -> None:
    images = torch.ones(200, 3, 8, 8)
    cut = Augmentation(cutout_px=4)(images, torch.Generator().manual_seed(0))
    assert torch.equal(cut[:, 0], cut[:, 1]) and set(cut.unique().tolist()) == {0.0, 1.0}
    areas = []
    for image in cut[:, 0]:
        rows, columns = (image == 0).any(1), (image == 0).any(0)
        assert torch.equal(image == 0, rows[:, None] & columns)  # a rectangle
        assert int(rows.nonzero()[-1] - rows.nonzero()[0]) + 1 == int(rows.sum())  # without gaps
        areas.append(int((image == 0).sum()))
    assert max(areas) == 16 and min(areas) < 16
    assert torch.equal(cut, Augmentation(cutout_px=4)(images, torch.Generator().manual_seed(0)))


def test_cutout_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="`cutout_px` must be at least 0"):
        Augmentation(cutout_px=-1)
