"""`nasray lut`: latency lookup tables, measured here or published."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nasray.architecture import Architecture
    from nasray.hardware.table_keys import PlannedSpace

OTHER_SPACES = ("cell", "chain")
"""Spaces besides the mobile networks of `nasray.spaces.mobile_networks.NETWORKS`."""

lut = typer.Typer(help="Latency lookup tables: measure one here, or import, show and check one.")

Output = Annotated[Path, typer.Option(help="File of the table.", dir_okay=False)]
TableFile = Annotated[Path, typer.Argument(metavar="TABLE", help="File of the table.", show_default=False)]


@lut.callback(invoke_without_command=True)
def _lut(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@lut.command()
def build(
    space: Annotated[str, typer.Option(help="mobile-32 or another mobile network, cell (NAS-Bench-201), or chain.")],
    output: Output,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>.")] = "cpu",
    classes: Annotated[int, typer.Option(help="Outputs of the networks.", min=2)] = 10,
    channels: Annotated[int, typer.Option(help="Channels of the image.", min=1)] = 3,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the image in pixels; by default the space's own, or 32.", min=1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads on a CPU; one is the steadiest.", min=1)] = 1,
    rounds: Annotated[int, typer.Option(help="How often each layer is timed.", min=1)] = 3,
    chains: Annotated[int, typer.Option(help="Of the space chain: random networks to time the layers of.", min=2)] = 50,
    check: Annotated[
        int, typer.Option(help="Networks that are timed as a whole to check the table; 0 for no check.", min=0)
    ] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the order and of random networks.", min=0)] = 0,
) -> None:
    """Time every layer that a space can need on this machine, and check the sums against whole networks.

    Interrupt it at any time: the same command goes on with what is missing.
    """
    import numpy as np

    from nasray.hardware.table_builder import build_latency_table
    from nasray.hardware.table_check import check_latency_table

    if check == 1:
        raise ValueError("`--check` must be 0 or at least 2, to compare ranks, got 1. Use 10.")
    chosen = make_space(space, num_classes=classes, in_channels=channels, resolution=resolution)
    networks = _random_chains(chosen, chains, seed) if space == "chain" else None
    try:
        table = build_latency_table(
            output,
            chosen,
            architectures=networks,
            device=device,
            batch_size=batch_size,
            threads=threads,
            rounds=rounds,
            seed=seed,
            progress=_progress("timings"),
        )
        if check:
            table = check_latency_table(
                output,
                chosen,
                generator=np.random.default_rng(seed),
                count=check,
                architectures=None if networks is None else networks[:check],
            )
    except KeyboardInterrupt:
        print(f"\nWhat was measured is kept in {output}; the same command goes on.", file=sys.stderr)
        raise
    print(f"{output}: {table.describe()}")


@lut.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Parquet or CSV in the notation of ProxylessNAS, OFA or TF-NAS.")],
    table: Annotated[str | None, typer.Option(help="Which table of the file; without it they are listed.")] = None,
    output: Annotated[Path | None, typer.Option(help="File of the block table.", dir_okay=False)] = None,
) -> None:
    """Import a published table of block latencies: ProxylessNAS, Once-for-All or TF-NAS."""
    from nasray.hardware.imported_tables import import_block_table, table_names

    if table is None:
        print(f"{source} holds the tables {', '.join(table_names(source))}. Choose one with --table.")
        return
    if output is None:
        raise ValueError("`--output` must name the file of the block table, got none.")
    imported = import_block_table(source, table)
    output.parent.mkdir(parents=True, exist_ok=True)
    imported.save(output)
    print(f"{output}: {imported.describe()}")


@lut.command()
def show(table: TableFile, rows: Annotated[int, typer.Option(help="Layers to list; the dearest.", min=0)] = 10) -> None:
    """Tell where a table was measured, how many layers it has, and which are the dearest."""
    from nasray.commands.output import print_table
    from nasray.hardware.lookup_table import LatencyTable

    loaded = LatencyTable.load(table, any_device=True)
    print(f"{table}: {loaded.describe()}")
    dearest = sorted(loaded.entries.items(), key=lambda row: -row[1])[:rows]
    print_table([{"layer": str(key), "latency_ms": latency_ms} for key, latency_ms in dearest])


@lut.command()
def check(
    table: TableFile,
    space: Annotated[str, typer.Option(help="The space that the table was built for.")],
    count: Annotated[int, typer.Option(help="Networks to time.", min=2)] = 10,
    classes: Annotated[int, typer.Option(help="Outputs of the networks.", min=2)] = 10,
    channels: Annotated[int, typer.Option(help="Channels of the image.", min=1)] = 3,
    resolution: Annotated[int | None, typer.Option(help="Side of the image in pixels.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the random networks.", min=0)] = 0,
) -> None:
    """Time whole networks on this machine, and compare them with the table's sums; the table keeps the outcome."""
    import numpy as np

    from nasray.hardware.table_check import check_latency_table

    chosen = make_space(space, num_classes=classes, in_channels=channels, resolution=resolution)
    networks = _random_chains(chosen, count, seed) if space == "chain" else None
    checked = check_latency_table(
        table, chosen, generator=np.random.default_rng(seed), count=count, architectures=networks
    )
    print(f"{table}: {checked.describe()}")


def make_space(name: str, *, num_classes: int, in_channels: int = 3, resolution: int | None = None) -> PlannedSpace:
    """Return a search space by its name on the command line.

    Raises:
        ValueError: If there is none of this name.
    """
    from nasray.spaces.cell import CellSpace
    from nasray.spaces.chain import ChainSpace
    from nasray.spaces.mobile_networks import NETWORKS, mobile_space

    if name == "cell":
        return CellSpace(num_classes=num_classes, in_channels=in_channels, resolution=resolution or 32)
    if name == "chain":
        return ChainSpace(num_classes=num_classes, in_channels=in_channels, resolution=resolution or 32)
    if name not in NETWORKS:
        raise ValueError(f"`--space` must be one of {', '.join((*NETWORKS, *OTHER_SPACES))}, got {name!r}.")
    return mobile_space(name, num_classes=num_classes, in_channels=in_channels, resolution=resolution)


def _random_chains(space: PlannedSpace, num: int, seed: int) -> list[Architecture]:
    """Draw different chains that may be built."""
    import numpy as np

    from nasray.spaces.chain_plan import ChainPlan

    generator, found = np.random.default_rng(seed), dict[str, "Architecture"]()
    while len(found) < num:
        drawn = space.random(generator)
        plan = space.plan(drawn)
        if isinstance(plan, ChainPlan) and plan.is_feasible:
            found[drawn.arch_id] = drawn
    return list(found.values())


def _progress(what: str) -> Callable[[int, int], None]:
    """Return a function that shows how far it is: in place on a terminal, else every tenth part on a line."""
    is_terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if is_terminal:
            print(f"\r{done:,} of {total:,} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or done % max(1, total // 10) == 0:
            print(f"{done:,} of {total:,} {what}", file=sys.stderr, flush=True)

    return show
