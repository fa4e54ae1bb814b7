"""Compare parameters and multiply-adds of every reference network with the published figures and torch's counter.

The plan counts in closed form; torch's counter runs the network on shapes alone. The two must agree exactly, and so
must the parameters of the plan and of the module. The networks of Yang et al. 2021, Tables 8 and 9, are counted on what
a supernet of their space extracts; those of MSDNet over all exits. Multiply-adds are of one image, at 32x32 for CIFAR
and 224x224 else, batch norm left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from _benchmark import Parser, write_json

from nasray.architecture import Architecture
from nasray.differentiable.relaxed_network import RelaxedNetwork, darts_supernet
from nasray.hardware.counter import count_macs
from nasray.models.anytime import ExitSequence
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.models.plain import PlainNetwork
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import netadaptv2_latency, netadaptv2_mac
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings, darts_cifar, darts_imagenet
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.spaces.network_plan import NetworkPlan
from nasray.spaces.published_networks import PublishedNetwork, published_networks, table_8, table_9

Plan = NetworkPlan | MultiScalePlan | MSDNetPlan


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one network; None where nothing is published."""

    name: str
    parameters: int
    macs: int
    published_parameters: int | None
    published_macs: int | None
    counter_parameters: int
    counter_macs: int


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A network to count: its plan, how it is built, its input, and the published figures.

    A supernet has no plan, as no single network is meant; then the module alone is counted, without the alphas.
    """

    name: str
    plan: Plan | None
    build: Callable[[], torch.nn.Module]
    in_channels: int
    resolution: int
    parameters: int | None
    macs: int | None


def references() -> list[Reference]:
    """Return all networks."""
    mobile = [
        Reference(
            name=network.name,
            plan=network.plan,
            build=lambda network=network: build_mobile(network),  # type: ignore[misc]
            in_channels=network.plan.spec.in_channels,
            resolution=network.plan.spec.resolution,
            parameters=network.parameters,
            macs=network.macs,
        )
        for network in published_networks()
    ]
    return [
        *mobile,
        darts("darts-v2-cifar10", darts_cifar(), 3_349_342, 528_360_000),
        darts("darts-v2-imagenet", darts_imagenet(), 4_718_752, 529_910_000),
        Reference(
            name="darts-supernet",
            plan=None,
            build=darts_supernet,
            in_channels=3,
            resolution=32,
            parameters=1_930_618,
            macs=None,
        ),
        msdnet("msdnet-cifar100", MSDNetSettings(num_classes=100), 3_067_960, 75_490_000),
        msdnet("msdnet-cifar10", MSDNetSettings(num_classes=10), 2_986_690, 75_410_000),
    ]


def darts(name: str, settings: MultiScaleSettings, parameters: int, macs: int) -> Reference:
    """Return the network of the genotype that second-order DARTS found."""
    plan = MultiScalePlan(genotype=DARTS_V2, settings=settings)
    return Reference(
        name=name,
        plan=plan,
        build=lambda: MultiScaleNetwork(plan),
        in_channels=settings.in_channels,
        resolution=settings.resolution,
        parameters=parameters,
        macs=macs,
    )


def msdnet(name: str, settings: MSDNetSettings, parameters: int, macs: int) -> Reference:
    """Return a Multi-Scale DenseNet that computes all of its exits."""
    plan = MSDNetPlan(settings)
    return Reference(
        name=name,
        plan=plan,
        build=lambda: ExitSequence(MSDNet(plan), settings.blocks),
        in_channels=settings.in_channels,
        resolution=settings.resolution,
        parameters=parameters,
        macs=macs,
    )


def build_mobile(network: PublishedNetwork) -> PlainNetwork:
    """Return the network as a module: extracted from a supernet where a search found it, else built from its plan."""
    found: dict[str, tuple[MobileSpace, Architecture]] = {
        "netadaptv2-table8": (MobileSpace(netadaptv2_latency()), table_8()),
        "netadaptv2-table9": (MobileSpace(netadaptv2_mac()), table_9()),
    }
    if network.name not in found:
        return PlainNetwork(network.plan)
    space, architecture = found[network.name]
    return Supernet(space).extract(architecture)


def measure(reference: Reference) -> Row:
    """Count one network in both ways."""
    with torch.device("meta"):
        module = reference.build()
    weights = module.weights if isinstance(module, RelaxedNetwork) else module.parameters()
    parameters = sum(parameter.numel() for parameter in weights)
    macs = count_macs(module, (1, reference.in_channels, reference.resolution, reference.resolution))
    return Row(
        name=reference.name,
        parameters=reference.plan.parameters if reference.plan else parameters,
        macs=reference.plan.macs if reference.plan else macs,
        published_parameters=reference.parameters,
        published_macs=reference.macs,
        counter_parameters=parameters,
        counter_macs=macs,
    )


def difference(counted: int, published: int | None) -> str:
    """Return the published figure and by how much the counted one differs."""
    if published is None:
        return f"{'-':>13} {'-':>8}"
    return f"{published:>13,} {counted / published - 1:>+8.2%}"


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--network", help="only this reference network")
    arguments = parser.parse_args()
    networks = {reference.name: reference for reference in references()}
    if arguments.network and arguments.network not in networks:
        parser.error(f"--network must be one of {', '.join(networks)}, got {arguments.network!r}.")
    rows = [measure(n) for name, n in networks.items() if arguments.network in (None, name)]
    print(f"{'network':20}{'parameters':>12} {'published':>13} {'':8} {'MACs':>13} {'published':>13}")
    for row in rows:
        print(
            f"{row.name:20}{row.parameters:>12,} {difference(row.parameters, row.published_parameters)} "
            f"{row.macs:>13,} {difference(row.macs, row.published_macs)}"
        )
    write_json(arguments.json, [asdict(row) for row in rows])
    wrong = [row.name for row in rows if (row.parameters, row.macs) != (row.counter_parameters, row.counter_macs)]
    print(f"plan against torch's counter and module: {len(rows) - len(wrong)} of {len(rows)} networks agree exactly")
    if wrong:
        print(f"They disagree on {', '.join(wrong)}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
