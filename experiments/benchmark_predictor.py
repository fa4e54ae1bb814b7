"""How well costs are predicted from few measurements: this CPU's latency, and devices that others have measured.

First, sub-networks of a mobile supernet space are timed on one thread of this machine, interleaved over rounds, and a
predictor that learned from some of them is asked for the others. Then, with NASRAY_DATA set, every complete device
column of NAS-Bench-201 (HW-NAS-Bench, HELP, HW-NAS-Bench-360) is predicted in 5 folds from a few cells and from all
others. Cells whose output does not depend on their input are left out: compilers reduce them to a constant.
Baselines: a line through the multiply-adds and, on the CPU, the sums of the layer lookup table.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from _benchmark import Parser, at_least, spread, write_json

from nasray.hardware.cost_sample import CostSample, load_sample, measure_sample
from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.latency import latency_measure
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.predictor import CostPredictor, check_predictions
from nasray.hardware.predictor_models import LinearModel
from nasray.hardware.table_builder import build_latency_table
from nasray.spaces.cell import CellSpace
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import NETWORKS, mobile_space

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

PARTS = ("cpu", "tables")
NUM_FOLDS = 5


def main() -> None:
    """Run the parts and print their tables."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="what to run")
    add("--space", default="mobile-32", choices=list(NETWORKS), help="supernet space that is timed")
    add("--networks", type=at_least(40), default=300, help="sub-networks to time")
    add("--train", type=at_least(20), default=200, help="of them, and of a table's cells, those to learn from")
    add("--rounds", type=at_least(1), default=9, help="timings of each sub-network; the shortest counts")
    add("--seeds", type=at_least(3), default=5, help="divisions of the timed sub-networks")
    add("--sample", type=Path, metavar="FILE", help="keep the timings here, or go on with those that are here")
    add("--table", type=Path, metavar="FILE", help="layer lookup table of the space; kept, continued, or measured anew")
    add("--columns", metavar="A,B", help="device columns; by default all that are complete")
    add("--few-only", action="store_true", help="leave out the predictors that learn from all other cells")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"--parts must be among {', '.join(PARTS)}, got {unknown[0]!r}.")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        if "cpu" in parts:
            sample = arguments.sample or Path(scratch) / "sample.jsonl"
            table = arguments.table or Path(scratch) / "table.jsonl"
            rows += on_this_cpu(parser, arguments, sample, table)
    if "tables" in parts:
        rows += on_tables(parser, arguments)
    write_json(arguments.json, rows)


def on_this_cpu(parser: Parser, arguments: Any, sample_path: Path, table_path: Path) -> list[Row]:
    """Time sub-networks and predict those that were left out."""
    torch.set_num_threads(1)
    space = mobile_space(arguments.space, num_classes=10)
    if arguments.train + 20 > arguments.networks:
        parser.error(f"--networks must leave 20 beyond --train, got {arguments.networks} and {arguments.train}.")
    sample = time_networks(space, arguments.networks, arguments.rounds, sample_path)
    table = build_latency_table(table_path, space)
    low, high = float(sample.values_N.min()), float(sample.values_N.max())
    print(
        f"{space.name} on {sample.device}: {len(sample.values_N)} networks of {low:.3f} to {high:.3f} ms, "
        f"{arguments.rounds} rounds, interquartile range of rounds {100 * (sample.noise or 0):.1f} % (median)"
    )
    print_noise(space, sample_path)
    rows = [row for seed in range(arguments.seeds) for row in split_rows(space, sample, table, arguments.train, seed)]
    print_rows(rows)
    return rows


def time_networks(space: MobileSpace, num: int, rounds: int, path: Path) -> CostSample:
    """Time networks spread over the space; the shortest round counts, as others on the machine only add time."""

    def progress(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            print(f"\r{done} of {total} timings", end="\n" if done == total else "", flush=True)

    return measure_sample(
        space,
        latency_measure(space, budget_s=0.03),
        num=num,
        generator=np.random.default_rng(0),
        path=path,
        device=f"{DeviceFingerprint.of('cpu', threads=1).describe()}, batch size 1",
        rounds=rounds,
        keep="minimum",
        proxy=lambda architecture: float(space.plan(architecture).macs),
        progress=progress,
    )


def print_noise(space: MobileSpace, path: Path) -> None:
    """Print how the median of the rounds orders networks, against their minimum: what noise alone does."""
    shortest, median = load_sample(path, space, keep="minimum"), load_sample(path, space, keep="median")
    check = check_predictions(median.values_N, shortest.values_N)
    print(
        f"median of rounds against the shortest: {check.mean_absolute_percentage_error:.1f} % longer, "
        f"Kendall tau {check.kendall_tau:.3f}"
    )


def split_rows(space: MobileSpace, sample: CostSample, table: LatencyTable, num_train: int, seed: int) -> list[Row]:
    """Learn from a part of the sample, and predict the others by every method."""
    order = np.random.default_rng(seed).permutation(len(sample.values_N))
    known, unknown = sample.subset(order[:num_train]), sample.subset(order[num_train:])
    predictor = CostPredictor.fit(space, known, seed=seed)
    setting = {"column": f"{space.name} cpu ms", "train": num_train, "seed": seed}
    rows = [setting | predictor_row(predictor, unknown)]
    macs_T, macs_N = (np.array([[space.plan(a).macs] for a in part.architectures], float) for part in (known, unknown))
    line_N = LinearModel.fit(macs_T, known.values_N).predict(macs_N)
    rows.append(setting | {"method": "line through MACs"} | figures(line_N, unknown.values_N))
    sums_T, sums_N = (np.array([table.predict(space.plan(a)) for a in part.architectures]) for part in (known, unknown))
    rows.append(setting | {"method": "lookup table"} | figures(sums_N, unknown.values_N))
    # Sums come out below whole networks; a factor from the same measurements makes the comparison fair.
    factor = statistics.median((known.values_N / sums_T).tolist())
    rows.append(setting | {"method": "lookup table, scaled"} | figures(factor * sums_N, unknown.values_N))
    return rows


def on_tables(parser: Parser, arguments: Any) -> list[Row]:
    """Predict the device columns of NAS-Bench-201."""
    cells = read_cells(parser)
    columns = arguments.columns.split(",") if arguments.columns else device_columns(cells)
    if unknown := [name for name in columns if name not in cells]:
        parser.error(
            f"--columns must be among the complete ones, {', '.join(device_columns(cells))}, got {unknown[0]!r}."
        )
    space = CellSpace(merge_isomorphic=False)
    every = [space.from_arch_str(text) for text in cells["arch_str"]]
    merged = CellSpace()
    constant = merged.from_arch_str("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    connected = [index for index, each in enumerate(every) if merged.canonical(each.choices) != constant]
    left_out, is_timed_N = len(every) - len(connected), (cells["rep_arch_idx"] == cells["index"]).to_numpy()
    print(f"\nNAS-Bench-201: {len(connected):,} cells, {left_out} left out as constant; {NUM_FOLDS} folds")
    rows: list[Row] = []
    for column in columns:
        # On the Raspberry Pi 5 one of all isomorphic cells was timed; the others have copies of its figures.
        own_cells = [i for i in connected if is_timed_N[i]] if column.startswith("pi5_") else connected
        values_N = cells[column].to_numpy(dtype=float)[own_cells]
        unit = "mJ" if column.endswith("_mj") else "ms"
        architectures = [every[index] for index in own_cells]
        sample = CostSample(space=space.name, device=column, unit=unit, architectures=architectures, values_N=values_N)
        own = [row for fold in range(NUM_FOLDS) for row in fold_rows(space, sample, column, fold, arguments)]
        print_rows(own, with_heading=not rows)
        rows += own
    return rows


def fold_rows(space: CellSpace, sample: CostSample, column: str, fold: int, arguments: Any) -> list[Row]:
    """Predict one fold from a few of the other cells, and from all of them."""
    order = np.random.default_rng(0).permutation(len(sample.values_N))
    is_unknown = np.arange(len(order)) % NUM_FOLDS == fold
    unknown, others = sample.subset(order[is_unknown]), order[~is_unknown]
    few = np.random.default_rng(fold).choice(others, arguments.train, replace=False)
    macs_N = np.array([[space.plan(a).macs] for a in unknown.architectures], dtype=float)
    rows = []
    for chosen in [few] if arguments.few_only else [few, others]:
        known = sample.subset(chosen)
        num = arguments.train if chosen is few else len(order) * (NUM_FOLDS - 1) // NUM_FOLDS  # the same for all folds
        setting = {"column": column, "train": num, "seed": fold}
        rows.append(setting | predictor_row(CostPredictor.fit(space, known, seed=fold), unknown))
        macs_T = np.array([[space.plan(a).macs] for a in known.architectures], dtype=float)
        line_N = LinearModel.fit(macs_T, known.values_N).predict(macs_N)
        rows.append(setting | {"method": "line through MACs"} | figures(line_N, unknown.values_N))
    return rows


def read_cells(parser: Parser) -> pd.DataFrame:
    """Return the cells with every complete device column, Raspberry Pi 5 latencies and energies included."""
    import pandas as pd

    if "NASRAY_DATA" not in os.environ:
        parser.error("NASRAY_DATA is not set: name the folder of the tables there, or pass --parts cpu.")
    folder = Path(os.environ["NASRAY_DATA"])
    try:
        cells = pd.read_parquet(folder / "hwnasbench" / "nb201_latency_cifar10.parquet")
        pi = pd.read_parquet(folder / "hwnasbench360" / "hwnasbench360.parquet")
    except OSError as error:
        parser.error(f"The tables cannot be read: {error}.")
    pi = pi[(pi.task == "cifar100") & (pi.device == "pi5")]
    timed = pi.drop_duplicates("arch_idx").set_index("arch_idx")[["rep_arch_idx"]]
    pi = pi.pivot_table(index="arch_idx", columns="framework", values=["energy_mj", "lat_ms_median"], observed=True)
    units = {"energy_mj": "mj", "lat_ms_median": "ms"}
    pi.columns = pd.Index([f"pi5_{pair[1]}_{units[pair[0]]}" for pair in pi.columns.tolist()])
    return cells.merge(pi.join(timed), left_on="index", right_index=True).dropna(axis="columns")


def device_columns(cells: pd.DataFrame) -> list[str]:
    """Return the columns of figures."""
    return [name for name in map(str, cells.columns) if name.endswith(("_ms", "_mj"))]


def predictor_row(predictor: CostPredictor, unknown: CostSample) -> Row:
    """Return the figures of a predictor on what it has not seen."""
    predicted_N, ends_N2 = predictor.predict(unknown.architectures), predictor.intervals(unknown.architectures)
    is_covered_N = (ends_N2[:, 0] <= unknown.values_N) & (unknown.values_N <= ends_N2[:, 1])
    return {
        "method": "predictor",
        "kind": predictor.kind,
        **figures(predicted_N, unknown.values_N),
        "coverage_percent": 100 * float(is_covered_N.mean()),
        "interval_percent": 100 * float(np.median((ends_N2[:, 1] - ends_N2[:, 0]) / 2 / predicted_N)),
    }


def figures(predicted_N: Array, measured_N: Array) -> Row:
    """Return mean and median relative error in percent, and the rank correlation."""
    check = check_predictions(predicted_N, measured_N)
    return {
        "error_percent": check.mean_absolute_percentage_error,
        "median_error_percent": 100 * float(np.median(np.abs(predicted_N / measured_N - 1))),
        "kendall_tau": check.kendall_tau,
    }


def print_rows(rows: list[Row], *, with_heading: bool = True) -> None:
    """Print mean and standard deviation of each method over seeds or folds."""
    if with_heading:
        print(
            f"{'column':30}{'train':>6} {'method':22}{'mean error %':>15}{'median %':>9}{'Kendall tau':>17}"
            f"{'coverage of 90 %':>18}{'+- %':>7}  model"
        )
    groups = dict.fromkeys((row["column"], row["train"], row["method"]) for row in rows)
    for column, train, method in groups:
        own = [row for row in rows if (row["column"], row["train"], row["method"]) == (column, train, method)]

        def cell(name: str, digits: int, own: list[Row] = own) -> str:
            if name not in own[0]:
                return "-"
            found = spread([row[name] for row in own])
            return f"{found['mean']:.{digits}f} +-{found['sd']:.{digits}f}"

        median = spread([row["median_error_percent"] for row in own])["mean"]
        width = f"{spread([row['interval_percent'] for row in own])['mean']:.1f}" if "kind" in own[0] else "-"
        kinds = ", ".join(sorted({row["kind"] for row in own if "kind" in row}))
        print(
            f"{column:30}{train:>6} {method:22}{cell('error_percent', 2):>15}{median:>9.2f}{cell('kendall_tau', 3):>17}"
            f"{cell('coverage_percent', 1):>18}{width:>7}  {kinds}",
            flush=True,
        )


if __name__ == "__main__":
    main()
