"""Presets of an MS-RANAS run: a quick one, and the paper's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nasray.differentiable.config import SearchConfig
from nasray.training.config import TrainingConfig
from nasray.tune.ms_ranas_settings import MSRanasSettings


def sgd_recipe(*, epochs: int, batch_size: int, learning_rate: float = 0.025) -> TrainingConfig:
    """Return the final training of DARTS: SGD, cosine to 0, weight decay 3e-4, gradients clipped at 5.

    Source: Liu et al. 2019 (DARTS), Sec. 3.1 and appendix A.2. Deviation: the rate falls at each step instead of each
    epoch.
    """
    return TrainingConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        reference_batch=batch_size,
        optimizer="sgd",
        schedule="cosine",
        weight_decay=3e-4,
        ema_decay=0.0,
        gradient_clip=5.0,
    )


def _quick() -> MSRanasSettings:
    """A few minutes on two cores; rates are raised so that few steps on few images go somewhere."""
    return MSRanasSettings(
        channels=8,
        exits=(4,),
        cutouts_px=(0,),
        search=SearchConfig(epochs=15, frozen_epochs=5, batch_size=64, learning_rate=0.05, alpha_learning_rate=6e-3),
        final=sgd_recipe(epochs=30, batch_size=64, learning_rate=0.05),
        num_random=2,
        max_train=5000,
    )


def _paper_cifar10() -> MSRanasSettings:
    """The search and training behind Fig. 9: three scales, seven layers, two nodes, cutout, six exits.

    The paper follows DARTS in all else: 50 epochs of search at batch 64 and 16 channels, 600 of training at batch 96,
    drop path up to 0.2. Unlike there, held-out images are set aside to select networks on (5,000 of CIFAR), so that
    searches and trainings see 45,000. Its final number of channels, chosen so that the network has about the parameters
    of MSDNet, is not published; with 56 most genotypes come near it (2.0M to 3.3M, MSDNet has 2.99M).
    """
    return MSRanasSettings(
        final_channels=56, search=SearchConfig(order=2), final=sgd_recipe(epochs=600, batch_size=96), drop_path=0.2
    )


def _ablation() -> MSRanasSettings:
    """The searches behind Fig. 4: five layers, four nodes, with and without cutout, early exits and more scales.

    What they find is trained with one scale and one exit, without cutout and without DARTS's auxiliary head (the paper
    tells of none; --auxiliary adds it); for Fig. 5, give --final-scales and --final-exits.
    """
    return replace(
        _paper_cifar10(),
        num_nodes=4,
        layers=5,
        final_channels=None,
        scales=(1, 2, 3),
        exits=(1, None),
        cutouts_px=(0, 16),
        final_scales=1,
        final_exits=1,
        final_cutout_px=0,
        num_random=0,
        has_msdnet=False,
    )


PRESETS: dict[str, Callable[[], MSRanasSettings]] = {
    "quick": _quick,
    "paper-cifar10": _paper_cifar10,
    "paper-cifar100": _paper_cifar10,  # the same recipe: classes and images come with the data
    "ablation": _ablation,
}
