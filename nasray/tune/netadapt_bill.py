"""The bill before a NetAdaptV2 run."""

from __future__ import annotations

from nasray.carbon.bill import Bill
from nasray.training.jobs import NetworkJob
from nasray.tune.energy.calibration import Calibration
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.netadapt import NetAdaptRun
from nasray.tune.problems.subnets import SubnetProblem


def netadapt_bill(
    run: NetAdaptRun, energy: EnergySettings, *, num_workers: int, training_workers: int = 1, device: str = "cpu"
) -> Bill:
    """Return what a run will probably cost, after a calibration of some seconds.

    Args:
        run: The run.
        energy: Where the electricity is from.
        num_workers: Evaluators of a search, and trainings at a time.
        training_workers: Data-parallel workers of a training.
        device: Where a worker computes.
    """
    settings, num_seeds = run.settings, len(run.seeds)
    largest = run.space.largest()
    parameters = run.space.plan(largest).parameters
    subnets = SubnetProblem(settings, run.data, seed=run.seeds[0], batch_size=1)
    final = NetworkJob(network=run.space.spec, training=settings.final, architecture=largest)
    with Calibration(device=device) as calibration:
        supernet, candidates = subnets.calibrate(calibration)
        final_s = calibration.training_s(final, run.data)
    # A network at its target trains in about its share of the initial network's time.
    shares = [_share(run, search.target.value, search.target.is_share) for search in run.searches]
    shares += [1.0] * num_seeds * settings.trains_initial
    count = _num_candidates(run)
    supernet_s, workers = supernet.seconds * num_seeds, min(num_workers, num_seeds)
    stages = [
        calibration.stage(
            "supernet",
            supernet_s,
            num_workers=max(workers, training_workers),
            parameters=parameters * num_seeds,
            trained_at_once=workers / num_seeds,
        ),
        calibration.stage("search", candidates.seconds_each * count, num_workers=num_workers, evaluations=count),
        calibration.stage(
            "final",
            final_s * sum(shares),
            num_workers=min(num_workers, len(shares)) * training_workers,
            parameters=round(parameters * sum(shares)),
            trained_at_once=num_workers / len(shares),
            exports=len(shares),
            exported_parameters=round(parameters * sum(shares)),
        ),
    ]
    return calibration.bill(stages, energy)


def _share(run: NetAdaptRun, target: float, is_share: bool) -> float:
    """Return what is left of the initial network at a target; an absolute one is taken as multiply-adds."""
    return target if is_share else min(1.0, target / run.space.plan(run.space.largest()).macs)


def _num_candidates(run: NetAdaptRun) -> int:
    """Return how many candidates the searches evaluate if every iteration saves what it has to."""
    shares = (_share(run, search.target.value, search.target.is_share) for search in run.searches)
    return sum(run.settings.num_samples * run.settings.descent(share).num_iterations(1.0) for share in shares)
