"""The bill before an MS-RANAS run."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import torch

from nasray.carbon.bill import Bill
from nasray.data import ImageData
from nasray.differentiable.search_job import SearchJob
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitJob
from nasray.tune.energy.calibration import Calibration
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.ms_ranas import MSRanasRun

_MEASURE_S, _EXPORT_S = 0.3, 8.0
"""What an exit takes to be measured, and to be exported as two files that are checked, in seconds."""


def ms_ranas_bill(run: MSRanasRun, energy: EnergySettings, *, num_workers: int, device: str = "cpu") -> Bill:
    """Return what a run will probably cost, after a calibration of some seconds for each layout.

    Rivals are taken to train as long as a random architecture does, an MSDNet for each way to search. The cost of a
    measured table is left out.

    Args:
        run: The run.
        energy: Where the electricity is from.
        num_workers: Searches and trainings at a time.
        device: Where workers compute.
    """
    settings, num_seeds = run.settings, len(run.seeds)
    variants = run.variants
    finals = [settings.final_layout(variant, run.data) for variant in variants]
    with Calibration(device=device) as calibration:
        searches = {layout: _search(calibration, run, layout) for layout in dict.fromkeys(run.search_layouts.values())}
        trainings_s = {layout: _training_s(calibration, run, layout) for layout in dict.fromkeys(finals)}
    search_s = num_seeds * sum(searches[run.search_layouts[variant]][0] for variant in variants)
    # Until all searches have ended, each keeps two checkpoints; a third is written before the older one goes.
    states_bytes = num_seeds * sum(searches[run.search_layouts[variant]][1] for variant in variants)
    states_bytes = 2 * states_bytes + max(state_bytes for _, state_bytes in searches.values())
    for_each = 1 + settings.num_random + settings.has_msdnet
    final_s = num_seeds * for_each * sum(trainings_s[layout] for layout in finals)
    num_networks = num_seeds * for_each * len(variants)
    exits = max(layout.exits for layout in finals)
    exported = len(variants) * (1 + settings.has_msdnet)
    parameters = sum(_random_plan(layout).parameters for layout in finals) * for_each * num_seeds
    searching = calibration.stage("search", search_s, num_workers=min(num_workers, num_seeds * len(variants)))
    stages = [
        replace(searching, checkpoint_bytes=states_bytes),
        calibration.stage(
            "final",
            final_s,
            num_workers=min(num_workers, num_networks),
            parameters=parameters,
            trained_at_once=num_workers / num_networks,
        ),
        calibration.stage(
            "export",
            exits * (num_networks * _MEASURE_S + exported * _EXPORT_S),
            exports=exits * exported,
            # An exit's files hold what leads to it, on average about half of the network.
            exported_parameters=round(exits * exported * parameters / num_networks / 2),
        ),
    ]
    return calibration.bill(stages, energy)


def _search(calibration: Calibration, run: MSRanasRun, layout: MultiScaleSettings) -> tuple[float, int]:
    """Return how long one worker would search, from epochs of two steps, and the bytes of a checkpoint."""
    config, data = run.settings.search, run.data
    quiet = replace(config, monitor=None, stops_at_collapse=False)
    running = SearchJob(settings=layout, config=quiet).start(_some(data, 4 * config.batch_size), calibration.place)
    epoch_s = calibration.seconds_each(lambda _: running.run_epoch(), itertools.count())
    steps = max(1, int(len(data.train) * config.weights_share) // config.batch_size)
    state = io.BytesIO()
    torch.save(running.state_dict(), state)
    return epoch_s / running.steps_per_epoch * steps * config.epochs, state.tell()


def _training_s(calibration: Calibration, run: MSRanasRun, layout: MultiScaleSettings) -> float:
    """Return how long one worker would train a random architecture, from epochs of four steps."""
    recipe, data = run.settings.final, run.data
    few = _some(data, 4 * recipe.batch_size)
    running = ExitJob(plan=_random_plan(layout), training=recipe).start(few, calibration.place)
    each_s = calibration.seconds_each(lambda _: running.run_epoch(), itertools.count())
    return each_s * len(data.train) / len(few.train) * recipe.epochs


def _random_plan(layout: MultiScaleSettings) -> MultiScalePlan:
    space = MultiScaleSpace(layout)
    return space.plan(space.random(np.random.default_rng(0)))


def _some(data: ImageData, count: int) -> ImageData:
    """Return a data set with some of the training images, evenly spread."""
    rows = torch.linspace(0, len(data.train) - 1, min(count, len(data.train))).long()
    return replace(data, train=data.train.subset(rows))
