"""The networks that an MS-RANAS run trains: what was found, and rivals at about the same multiply-adds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nasray.data import ImageData
from nasray.models.msdnet_plan import MSDNetPlan
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitJob, ExitPlan
from nasray.tune.ms_ranas_rivals import random_plans, scaled_msdnet
from nasray.tune.ms_ranas_settings import MSRanasSettings, Variant

Group = Literal["found", "random", "msdnet"]
GROUPS: Mapping[Group, str] = {"found": "Found", "random": "Random cells", "msdnet": "MSDNet"}
"""What a network of a run is, and what people read."""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network that a run trains.

    Args:
        name: Of its trial.
        group: What it is.
        variant: Label of the search that found it, or for which it is a rival; of the first of them for an MSDNet.
        seed: Of search and training.
        job: Its training.
        rival_of: Labels of all searches for which it is a rival.
    """

    name: str
    group: Group
    variant: str
    seed: int
    job: ExitJob
    rival_of: tuple[str, ...] = ()


def trained_networks(
    settings: MSRanasSettings, data: ImageData, *, seeds: Sequence[int], found: Mapping[str, Mapping[str, Any]]
) -> list[TrainedNetwork]:
    """Return all networks to train.

    Args:
        settings: Of the run.
        data: Data set.
        seeds: Of the run.
        found: Results of the searches that found something, by trial name, each with a `genotype`.
    """
    networks: list[TrainedNetwork] = []
    plans: dict[Variant, dict[int, MultiScalePlan]] = {}
    for number, variant in enumerate(settings.variants):
        layout = settings.final_layout(variant, data)
        for seed in seeds:
            if (name := variant.trial_name(seed)) not in found:
                continue
            plan = MultiScalePlan(genotype=Genotype.from_json(found[name]["genotype"]), settings=layout)
            plans.setdefault(variant, {})[seed] = plan
            networks.append(_network(settings, f"found-{name}", "found", (variant,), seed, plan))
            generator = np.random.default_rng([seed, number])
            networks += [
                _network(settings, f"random{index}-{name}", "random", (variant,), seed, rival)
                for index, rival in enumerate(random_plans(plan, settings.num_random, generator=generator))
            ]
    return [*networks, *(_msdnets(settings, plans) if settings.has_msdnet else ())]


def _msdnets(
    settings: MSRanasSettings, plans: Mapping[Variant, Mapping[int, MultiScalePlan]]
) -> Iterator[TrainedNetwork]:
    """Yield an MSDNet for each variant, at the mean costs of what it found, with every seed that found something.

    Variants whose MSDNets are the same network, trained in the same way, share it.
    """
    shared: dict[tuple[MSDNetPlan, int], list[Variant]] = {}
    for variant, found in plans.items():
        layout = next(iter(found.values())).settings
        exits = range(1, layout.exits + 1)
        macs = [statistics.mean(plan.exit_macs(exit) for plan in found.values()) for exit in exits]
        shared.setdefault((scaled_msdnet(layout, macs), settings.final_cutout(variant)), []).append(variant)
    for (plan, _), variants in shared.items():
        for seed in dict.fromkeys(seed for variant in variants for seed in plans[variant]):
            yield _network(settings, f"msdnet-{variants[0].trial_name(seed)}", "msdnet", variants, seed, plan)


def _network(
    settings: MSRanasSettings, name: str, group: Group, variants: Sequence[Variant], seed: int, plan: ExitPlan
) -> TrainedNetwork:
    job = ExitJob(
        plan=plan,
        training=settings.final,
        cutout_px=settings.final_cutout(variants[0]),
        drop_path=0.0 if isinstance(plan, MSDNetPlan) else settings.drop_path,
        seed=seed,
    )
    labels = tuple(variant.label for variant in variants)
    rival_of = () if group == "found" else labels
    return TrainedNetwork(name=name, group=group, variant=labels[0], seed=seed, job=job, rival_of=rival_of)
