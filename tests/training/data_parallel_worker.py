"""What one of several workers trains, as a program: `python data_parallel_worker.py RANK WORLD_SIZE FOLDER`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from nasray.data import Batches, load_image_data
from nasray.data.augmentation import Augmentation
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import mobile_8
from nasray.training.config import TrainingConfig
from nasray.training.jobs import NetworkJob, Place, SupernetJob, to_numpy
from nasray.training.losses import cross_entropy
from nasray.training.trainer import Trainer

RECIPE = TrainingConfig(epochs=2, batch_size=64, optimizer="sgd", gradient_clip=2.0, ema_decay=0.9)


def images():
    """Handwritten digits as they are: augmentation is drawn by each worker on its own."""
    return replace(load_image_data(None, max_train=640), augmentation=Augmentation())


def without_dropout(network):
    """Dropout is drawn by each worker on its own."""
    blocks = tuple(
        replace(block, layers=tuple(replace(layer, dropout=0.0) for layer in block.layers)) for block in network.blocks
    )
    return replace(network, blocks=blocks)


def supernet(place):
    return SupernetJob(network=without_dropout(mobile_8()), training=RECIPE, num_subnets=4)


def masked(place):
    return replace(supernet(place), is_masked=True)


def network(place):
    spec = without_dropout(mobile_8())
    return NetworkJob(network=spec, training=replace(RECIPE, epochs=8), architecture=MobileSpace(spec).largest())


def trained(job, place):
    running = job.start(images(), place)
    losses = []
    while not running.is_finished:
        losses.append(running.run_epoch()["loss"])
    return losses, to_numpy(running.trainer.evaluated)


def without_batch_norm(place):
    """Train a network whose every step is the same however the batch is shared."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    data = images()

    def batches(epoch):
        size = RECIPE.batch_size // place.world_size
        shard = {"rank": place.rank, "world_size": place.world_size}
        return Batches(data.train, data, batch_size=size, train=True, epoch=epoch, **shard)

    trainer = Trainer(model, RECIPE, steps_per_epoch=len(batches(0)), backward=cross_entropy(model))
    results = [trainer.run_epoch(batches(epoch)) for epoch in range(RECIPE.epochs)]
    assert {result.num_images for result in results} == {len(batches(0)) * RECIPE.batch_size}
    return [result.loss for result in results], to_numpy(trainer.evaluated)


def results(place):
    """Return losses by epoch, and averaged weights flattened by name, of every training."""
    found = {"without_batch_norm": without_batch_norm(place)}
    for make in (supernet, masked, network):
        found[make.__name__] = trained(make(place), place)
    return {
        name: {"losses": losses, "weights": {key: value.ravel().tolist() for key, value in weights.items()}}
        for name, (losses, weights) in found.items()
    }


if __name__ == "__main__":
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=world_size)
    found = results(Place(rank=rank, world_size=world_size))
    (folder / f"rank{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()
