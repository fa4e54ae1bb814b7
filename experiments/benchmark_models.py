"""Compare parameters and multiply-adds of every reference network with the published figures and torch's counter.

The plan counts in closed form; torch's counter runs the network on shapes alone. The two must agree exactly, and so
must the parameters of the plan and of the module. The networks of Yang et al. 2021, Tables 8 and 9, are counted on what
a supernet of their space extracts. Multiply-adds are of one image at 224x224, batch norm left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from _benchmark import Parser, write_json

from nasray.architecture import Architecture
from nasray.hardware.counter import count_macs
from nasray.models.plain import PlainNetwork
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import netadaptv2_latency, netadaptv2_mac
from nasray.spaces.published_networks import PublishedNetwork, published_networks, table_8, table_9


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


def build(network: PublishedNetwork) -> PlainNetwork:
    """Return the network as a module: extracted from a supernet where a search found it, else built from its plan."""
    found: dict[str, tuple[MobileSpace, Architecture]] = {
        "netadaptv2-table8": (MobileSpace(netadaptv2_latency()), table_8()),
        "netadaptv2-table9": (MobileSpace(netadaptv2_mac()), table_9()),
    }
    with torch.device("meta"):
        if network.name not in found:
            return PlainNetwork(network.plan)
        space, architecture = found[network.name]
        return Supernet(space).extract(architecture)


def measure(network: PublishedNetwork) -> Row:
    """Count one network in both ways."""
    module, spec = build(network), network.plan.spec
    return Row(
        name=network.name,
        parameters=network.plan.parameters,
        macs=network.plan.macs,
        published_parameters=network.parameters,
        published_macs=network.macs,
        counter_parameters=sum(parameter.numel() for parameter in module.parameters()),
        counter_macs=count_macs(module, (1, spec.in_channels, spec.resolution, spec.resolution)),
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
    networks = {network.name: network for network in published_networks()}
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
