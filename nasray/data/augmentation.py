"""Augmentation of whole batches on their device.

Legend: B images, C channels, H height, W width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random shift into a black border, random horizontal flip, and a black square at a random place (cutout).

    A shift by up to four pixels is the "random crop with padding 4" that is usual for CIFAR.

    Source: He et al. 2016 (arXiv:1512.03385), section 4.2; cutout: DeVries and Taylor 2017 (arXiv:1708.04552).
    Deviation: the square is black, not of the mean colour.

    Attributes:
        max_shift_px: Largest shift in each direction in pixels; 0 shifts nothing.
        flip: Whether half of the images are mirrored left to right.
        cutout_px: Side of the square that is cut out, which may lie partly outside; 0 cuts nothing.
    """

    max_shift_px: int = 0
    flip: bool = False
    cutout_px: int = 0

    def __post_init__(self) -> None:
        if self.cutout_px < 0:
            raise ValueError(f"`cutout_px` must be at least 0, got {self.cutout_px}. Use 0 to cut nothing.")
        if self.max_shift_px < 0:
            raise ValueError(f"`max_shift_px` must be at least 0, got {self.max_shift_px}. Use 0 to shift nothing.")

    def __call__(self, images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Return the augmented images.

        Args:
            images_BCHW: Images on any device, before they are normalised, so that zero is black.
            generator: Source of randomness, on the CPU: the same draws on every device.

        Returns:
            Images of the same shape, type and device.
        """
        if self.max_shift_px:
            images_BCHW = _shift(images_BCHW, self.max_shift_px, generator)
        if self.flip:
            images_BCHW = _flip(images_BCHW, generator)
        return _cut(images_BCHW, self.cutout_px, generator) if self.cutout_px else images_BCHW


def _shift(images_BCHW: Tensor, max_shift_px: int, generator: torch.Generator) -> Tensor:
    batch_size, _, height, width = images_BCHW.shape
    offsets_2B = torch.randint(0, 2 * max_shift_px + 1, (2, batch_size), generator=generator)
    offsets_2B = offsets_2B.to(images_BCHW.device, non_blocking=True)
    padded = F.pad(images_BCHW, (max_shift_px,) * 4)
    windows_BCYXHW = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: every shift of every image
    image_B = torch.arange(batch_size, device=images_BCHW.device)
    return windows_BCYXHW[image_B, :, offsets_2B[0], offsets_2B[1]]


def _flip(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    is_flipped_B = torch.rand(len(images_BCHW), generator=generator) < 0.5
    is_flipped_B = is_flipped_B.to(images_BCHW.device, non_blocking=True)
    return torch.where(is_flipped_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def _cut(images_BCHW: Tensor, side_px: int, generator: torch.Generator) -> Tensor:
    batch_size, _, height, width = images_BCHW.shape
    is_cut = torch.ones((), dtype=torch.bool)
    for dimension, size in ((1, height), (2, width)):
        first_B = torch.randint(0, size, (batch_size,), generator=generator) - side_px // 2
        offset_BS = torch.arange(size) - first_B[:, None]
        is_inside_BS = (offset_BS >= 0) & (offset_BS < side_px)
        is_cut = is_cut & is_inside_BS.unsqueeze(3 - dimension)
    is_cut = is_cut.to(images_BCHW.device, non_blocking=True)
    return images_BCHW.masked_fill(is_cut[:, None], 0)
