"""Training jobs of networks with several exits, through one loop: multi-scale networks and MSDNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nasray.data import Batches, ImageData, Split
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan
from nasray.models.multi_scale_network import AUXILIARY, MultiScaleNetwork
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.config import TrainingConfig
from nasray.training.exit_adaptive import adaptive_results
from nasray.training.exit_evaluation import ExitEvaluation, evaluate_exits
from nasray.training.exit_losses import auxiliary_cross_entropy, exit_cross_entropy
from nasray.training.jobs import Place, RunningJob, Weights

ExitPlan = MultiScalePlan | MSDNetPlan
ExitNetwork = MultiScaleNetwork | MSDNet


class RunningExitJob(RunningJob):
    """A training under way whose drop path rises linearly from 0 over the epochs, as in DARTS."""

    drop_path = 0.0
    """What the probability would reach after the last epoch."""

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch; see `RunningJob.run_epoch`."""
        network = self.trainer.model
        if isinstance(network, MultiScaleNetwork):
            network.set_drop_path(self.drop_path * self.trainer.epoch / self.trainer.config.epochs)
        return super().run_epoch()


@dataclass(frozen=True, kw_only=True)
class ExitJob:
    """Train a network with one or more exits from fresh weights; the losses of all exits weigh the same.

    Args:
        plan: The network.
        training: Recipe.
        cutout_px: Side of the square that is cut out of training images; 0 cuts nothing.
        drop_path: Probability to which drop path rises; MSDNet has none.
        auxiliary_weight: Of the auxiliary head's loss, where the plan has one.
        seed: Of weights, shuffling, augmentation and drop path.

    Raises:
        ValueError: If drop path is not in [0, 1) or is wanted of an MSDNet.

    Source: Cioflan and Timofte 2020 (MS-RANAS), eq. 3 and Sec. 4 (cutout; "following the methodology proposed by Liu
    et al."); Liu et al. 2019 (DARTS), Sec. 3.3 (drop path, auxiliary head). Deviation: none.
    """

    plan: ExitPlan
    training: TrainingConfig
    cutout_px: int = 0
    drop_path: float = 0.0
    auxiliary_weight: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1 or (self.drop_path and isinstance(self.plan, MSDNetPlan)):
            raise ValueError(f"`drop_path` must be in [0, 1), and 0 for an MSDNet, got {self.drop_path}.")

    def start(self, data: ImageData, place: Place) -> RunningExitJob:
        """Build network, optimizer and data for this worker; all workers start from the same weights."""
        torch.manual_seed(self.seed)
        network = build_exits(self.plan)
        place.put(network)
        smoothing = self.training.label_smoothing
        if isinstance(network, MultiScaleNetwork) and AUXILIARY in network.parts:
            backward = auxiliary_cross_entropy(network, weight=self.auxiliary_weight, label_smoothing=smoothing)
        else:
            backward = exit_cross_entropy(network, label_smoothing=smoothing)
        running = RunningExitJob(
            network,
            self.training,
            backward,
            with_cutout(data, self.cutout_px),
            place,
            seed=self.seed,
            generator=np.random.default_rng(),
        )
        running.drop_path = self.drop_path
        return running

    def final_metrics(self, running: RunningJob, data: ImageData, place: Place) -> dict[str, Any]:
        """Return what `metric_names` lists: of the held-out images, to choose networks by, and of the test images.

        Raises:
            ValueError: If no image is held out.
        """
        network = running.trainer.evaluated.eval()
        assert isinstance(network, MultiScaleNetwork | MSDNet)

        def evaluated(split: Split) -> ExitEvaluation:
            return evaluate_exits(
                network,
                Batches(
                    split,
                    data,
                    batch_size=256,
                    device=place.device,
                    channels_last=True,
                    num_workers=place.decode_threads,
                ),
            )

        holdout, test = evaluated(data.holdout), evaluated(data.test)
        exits = range(1, network.num_exits + 1)
        metrics: dict[str, Any] = {
            accuracy_name(exit, split): accuracy
            for split, found in (("holdout", holdout), ("test", test))
            for exit, accuracy in zip(exits, found.accuracies, strict=True)
        }
        adaptive = adaptive_results(
            holdout,
            test,
            exit_macs=[self.plan.exit_macs(exit) for exit in exits],
            cumulative_macs=[self.plan.cumulative_macs(exit) for exit in exits],
        )
        return metrics | {"test_accuracy": test.accuracies[-1], "adaptive": adaptive}


def metric_names(plan: ExitPlan) -> list[str]:
    """Return what a job measures at its end.

    `holdout_accuracy_exit_1`, `test_accuracy_exit_1` and so on are those of every exit on the held-out and the test
    images; `test_accuracy` is the last exit's; `adaptive` is what `nasray.training.exit_adaptive` makes of them.
    """
    exits = range(1, num_exits(plan) + 1)
    return [
        *(accuracy_name(exit, split) for split in ("holdout", "test") for exit in exits),
        "test_accuracy",
        "adaptive",
    ]


def accuracy_name(exit: int, split: str) -> str:
    """Return the name of an exit's accuracy on "holdout" or "test" images among the metrics. Exits count from 1."""
    return f"{split}_accuracy_exit_{exit}"


def num_exits(plan: ExitPlan) -> int:
    """Return how many exits a network has."""
    return plan.settings.blocks if isinstance(plan, MSDNetPlan) else plan.settings.exits


def build_exits(plan: ExitPlan) -> ExitNetwork:
    """Return the network of a plan with fresh weights."""
    return MSDNet(plan) if isinstance(plan, MSDNetPlan) else MultiScaleNetwork(plan)


def load_exit_weights(plan: ExitPlan, weights: Weights) -> ExitNetwork:
    """Return a trained network in eval mode, without the auxiliary head that was only there to train it.

    Args:
        plan: That was trained.
        weights: What its training gave.
    """
    if isinstance(plan, MultiScalePlan):
        plan = replace(plan, settings=replace(plan.settings, has_auxiliary=False))
    network = build_exits(plan)
    kept = {name: value for name, value in weights.items() if not name.startswith(f"parts.{AUXILIARY}.")}
    # A copy, since arrays may be read-only views of a file or an object store.
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in kept.items()})
    return network.eval()


def with_cutout(data: ImageData, cutout_px: int) -> ImageData:
    """Return a data set whose training images have a square cut out; 0 cuts nothing."""
    return replace(data, augmentation=replace(data.augmentation, cutout_px=cutout_px))
