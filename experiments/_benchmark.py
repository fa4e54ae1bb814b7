"""What the benchmarks share: their arguments, the small CIFAR-10 setting, and how figures are kept."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from nasray.architecture import Architecture
from nasray.data import Batches, DataError, ImageData, load_image_data
from nasray.data.augmentation import Augmentation
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_space
from nasray.training.config import TrainingConfig
from nasray.training.evaluate import evaluate
from nasray.training.jobs import NetworkJob, Place, RunningJob, SupernetJob, load_supernet


class Parser(argparse.ArgumentParser):
    """Arguments of a benchmark; wrong input is answered by one sentence and exit status 2."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        self.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as JSON")

    def error(self, message: str) -> NoReturn:
        """Print the sentence alone and exit."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)

    def add_workload(self, *, supernet_epochs: int, network_epochs: int) -> None:
        """Add the data set and the training recipe."""
        add = self.add_argument
        add("--data", metavar="PATH", help="folder of CIFAR-10; by default cifar10 in the folder named by NASRAY_DATA")
        add("--images", type=at_least(100), default=10_000, help="training images, a fifth of them held out")
        add("--test-images", type=at_least(1), default=5_000, help="test images")
        add("--resolution", type=at_least(8), default=16, help="side of the images in pixels")
        add("--supernet-epochs", type=at_least(1), default=supernet_epochs, help="epochs of supernet training")
        add("--network-epochs", type=at_least(1), default=network_epochs, help="epochs of training from scratch")
        add("--batch-size", type=at_least(2), default=64, help="images per optimizer step")
        add("--device", default="cpu", help="torch device")
        add("--threads", type=at_least(1), default=1, help="CPU threads")
        add("--supernets", type=Path, metavar="DIR", help="where to keep trained supernets for other benchmarks")


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not too small."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, got {text!r}.")
        return int(text)

    return read


@dataclass(frozen=True, kw_only=True)
class Workload:
    """mobile-32 on a part of CIFAR-10, and one recipe for supernet and networks alike.

    Every count of epochs gets the whole decay of the learning rate: the rate falls by 0.963 eighty times.
    """

    data: ImageData
    space: MobileSpace
    supernet_epochs: int
    network_epochs: int
    batch_size: int
    place: Place
    supernets: Path | None = None

    @classmethod
    def of(cls, parser: Parser, arguments: argparse.Namespace) -> Workload:
        """Load the data and print the setting; without data, end with one sentence."""
        torch.set_num_threads(arguments.threads)
        try:
            data = load_image_data(
                _data_folder(parser, arguments.data),
                max_train=arguments.images,
                max_test=arguments.test_images,
                holdout=arguments.images // 5,
                resolution=arguments.resolution,
            )
        except DataError as error:
            parser.error(str(error))
        if data.channels != 3:
            parser.error(f"--data must hold colour images, got {data.channels} channel(s). Name a folder of CIFAR-10.")
        shift = Augmentation(max_shift_px=max(1, arguments.resolution // 8), flip=True)
        workload = cls(
            data=replace(data, augmentation=shift),
            space=mobile_space("mobile-32", num_classes=data.num_classes, resolution=arguments.resolution),
            supernet_epochs=arguments.supernet_epochs,
            network_epochs=arguments.network_epochs,
            batch_size=arguments.batch_size,
            place=Place(device=arguments.device),
            supernets=arguments.supernets,
        )
        print(workload.describe(), flush=True)
        return workload

    def describe(self) -> str:
        """Return the setting in two lines."""
        data, largest = self.data, self.space.plan(self.space.largest())
        return (
            f"{self.space.name} at {data.resolution}x{data.resolution} ({largest.macs:,} MACs, {largest.parameters:,} "
            f"parameters) on {data.name}: {len(data.train):,} training, {len(data.holdout):,} holdout, "
            f"{len(data.test):,} test images\nsupernet {self.supernet_epochs} epochs, networks {self.network_epochs} "
            f"epochs from scratch, {self.recipe(self.network_epochs)}, {self.place.device}, "
            f"{torch.get_num_threads()} thread(s)"
        )

    def recipe(self, epochs: int) -> TrainingConfig:
        """Return the recipe for a number of epochs."""
        return TrainingConfig(
            epochs=epochs,
            batch_size=self.batch_size,
            decay_epochs=epochs / 80,
            warmup_epochs=min(1.0, epochs / 8),
            gradient_clip=2.0,
            ema_decay=0.998,
        )

    def macs(self, architecture: Architecture) -> float:
        """Return the multiply-adds of one image."""
        return float(self.space.plan(architecture).macs)

    def train_supernet(self, seed: int, *, is_masked: bool = False) -> tuple[Supernet, float]:
        """Return the averaged supernet in eval mode and the seconds that its training took; from a file if kept."""
        job = SupernetJob(
            network=self.space.spec, training=self.recipe(self.supernet_epochs), seed=seed, is_masked=is_masked
        )
        key = hashlib.sha256(f"{job} {self.data.fingerprint()} {self.data.augmentation}".encode()).hexdigest()[:16]
        file = self.supernets / f"{key}.pt" if self.supernets else None
        if file and file.exists():
            kept = torch.load(file, weights_only=True)
            return load_supernet(self.space, kept["weights"]).to(self.place.device), kept["seconds"]
        running, seconds = self._train(job.start(self.data, self.place))
        supernet = running.trainer.evaluated.eval()
        assert isinstance(supernet, Supernet)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"weights": supernet.state_dict(), "seconds": seconds}, file)
        return supernet, seconds

    def train_network(self, architecture: Architecture, seed: int) -> tuple[float, float]:
        """Train a network from scratch; returns its test accuracy and the seconds that training took."""
        job = NetworkJob(
            network=self.space.spec,
            training=self.recipe(self.network_epochs),
            seed=seed,
            architecture=architecture,
        )
        running, seconds = self._train(job.start(self.data, self.place))
        batches = Batches(self.data.test, self.data, batch_size=500, device=self.place.device, channels_last=True)
        return evaluate(running.trainer.evaluated.eval(), batches)["accuracy"], seconds

    @staticmethod
    def _train(running: RunningJob) -> tuple[RunningJob, float]:
        start = time.perf_counter()
        while not running.is_finished:
            running.run_epoch()
        return running, time.perf_counter() - start


def _data_folder(parser: Parser, given: str | None) -> str:
    if given:
        return given
    if "NASRAY_DATA" not in os.environ:
        parser.error("CIFAR-10 is needed, and NASRAY_DATA is not set: pass --data PATH, a folder that holds it.")
    return str(Path(os.environ["NASRAY_DATA"]) / "cifar10")


def spread(values: list[float] | np.ndarray) -> dict[str, float]:
    """Return mean, standard deviation (of a sample), median and quartiles."""
    array = np.asarray(values, dtype=float)
    low, middle, high = (float(q) for q in np.quantile(array, (0.25, 0.5, 0.75)))
    deviation = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return {"mean": float(array.mean()), "sd": deviation, "median": middle, "q25": low, "q75": high}


def write_json(path: Path | None, figures: object) -> None:
    """Write the figures where the user wants them."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
