"""The handwritten digits that come with scikit-learn: real, but tiny."""

import torch

from nasray.data.image_data import ImageData
from nasray.data.memory import memory_data
from nasray.data.selection import LoadOptions, stratified_order
from nasray.data.splits import MemorySplit

# Of all 1,797 images, with grey levels 0..16 mapped to 0..1.
DIGITS_MEAN = (0.3053,)
DIGITS_STD = (0.3760,)

_TEST_FRACTION = 0.25
_TEST_SEED = 20_240_501
_NUM_GREY_LEVELS = 16
_HOLDOUT_FRACTION = 0.2

NOTICE = (
    "No --data given: using scikit-learn's handwritten digits (1,797 real 8x8 images); "
    "accuracies say nothing about larger data sets."
)


def load_digits_data(options: LoadOptions) -> ImageData:
    """Load the digits; a quarter, stratified and always the same, is the test part.

    Args:
        options: What the caller chose; `seed` moves the holdout, never the test part.

    Returns:
        The data set, with one channel and 8x8 images unless `options` asks for another resolution.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images_NHW = torch.from_numpy(digits.images) * (255 / _NUM_GREY_LEVELS)
    everything = MemorySplit(
        images_NCHW=images_NHW.round().to(torch.uint8).unsqueeze(1), labels_N=torch.from_numpy(digits.target).long()
    )
    order_N = stratified_order(everything.labels_N, _TEST_SEED)
    num_test = round(_TEST_FRACTION * len(everything))
    train = everything.subset(order_N[num_test:].sort().values)
    return memory_data(
        train,
        everything.subset(order_N[:num_test].sort().values),
        name="digits",
        class_names=[str(digit) for digit in range(10)],
        options=options,
        default_holdout=round(_HOLDOUT_FRACTION * len(train)),
        shift_fraction=1 / 8,
        flip=False,
        mean=DIGITS_MEAN,
        std=DIGITS_STD,
        notice=NOTICE,
    )
