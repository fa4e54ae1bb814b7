"""Evaluation of sub-networks with the weights of a trained supernet."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasray.architecture import Architecture
from nasray.data import Batches, ImageData, Split
from nasray.data.splits import MemorySplit
from nasray.evaluation import Evaluation
from nasray.failures import attempt
from nasray.models.supernet import Supernet
from nasray.training.evaluate import NORM_POLICIES, NormPolicy, evaluate_subnet

_CACHE_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class CandidateConfig:
    """How sub-networks are compared.

    Args:
        policy: Batch-norm statistics to use.
        batch_size: Images per forward pass; with the policy `batch` it should be at least 256.
        calibration_images: Training images from which the policy `recalibrated` takes statistics.
    """

    policy: NormPolicy = "batch"
    batch_size: int = 512
    calibration_images: int = 1024

    def __post_init__(self) -> None:
        if self.policy not in NORM_POLICIES:
            raise ValueError(f"`policy` must be one of {', '.join(NORM_POLICIES)}, got {self.policy!r}.")
        if self.batch_size < 1 or self.calibration_images < 1:
            raise ValueError("`batch_size` and `calibration_images` must be at least 1.")


class CandidateEvaluator:
    """Gives the held-out accuracy and loss of sub-networks; keeps the images ready between calls.

    Args:
        supernet: Trained, on its device, in eval mode; its weights are never written.
        data: Its holdout split is what sub-networks are compared on.
        config: Settings.
    """

    def __init__(self, supernet: Supernet, data: ImageData, config: CandidateConfig) -> None:
        self._supernet, self._config = supernet, config
        self._device = next(supernet.parameters()).device
        self._holdout = self._images(data, data.holdout)
        self._calibration: list[tuple[Tensor, Tensor]] = []
        if config.policy == "recalibrated":
            rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
            self._calibration = list(self._images(data, data.train.subset(rows[: config.calibration_images])))

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Return `accuracy` and `loss` of one sub-network; one that runs out of memory is infeasible."""

        def evaluate() -> Evaluation:
            start = time.perf_counter()
            network = self._supernet.extract(architecture)
            metrics = evaluate_subnet(network, self._holdout, policy=self._config.policy, calibration=self._calibration)
            return Evaluation.from_metrics(metrics, time.perf_counter() - start)

        return attempt(evaluate)

    def _images(self, data: ImageData, split: Split) -> Iterable[tuple[Tensor, Tensor]]:
        """Return batches, kept on the device where they fit."""
        batches = Batches(
            split,
            data,
            batch_size=self._config.batch_size,
            device=self._device,
            channels_last=True,
            num_workers=1,
        )
        size = batches.num_images * data.channels * data.resolution**2 * 4
        return list(batches) if size <= _CACHE_BYTES else batches


def comparison_data(data: ImageData, config: CandidateConfig) -> ImageData:
    """Return the data set with only the images that evaluators need, decoded, so that none decodes them again."""
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    kept = rows[: config.calibration_images] if config.policy == "recalibrated" else rows[:1]
    train, test = data.train.subset(kept), data.test.subset(torch.arange(1))
    return replace(data, train=in_memory(train), holdout=in_memory(data.holdout), test=in_memory(test))


def in_memory(split: Split) -> Split:
    """Return a split whose images are decoded once and for all; each candidate sees all of them."""
    if isinstance(split, MemorySplit):
        return split
    rows = torch.arange(len(split)).split(256)
    batches = split.read_batches(rows, train=False, generator=torch.Generator(), num_workers=0, pin_memory=False)
    images, labels = zip(*batches, strict=True)
    return MemorySplit(images_NCHW=torch.cat(images), labels_N=torch.cat(labels), skipped=split.skipped)
