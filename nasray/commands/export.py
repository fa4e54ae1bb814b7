"""`nasray export`: a network of a run as files to ship."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from nasray.architecture import Architecture
from nasray.models.export_files import ExportReport
from nasray.records import RunDirectory


def export(run: Path, arch_id: str, output: Path, *, data: Path | None = None) -> Path:
    """Write a network of a run into a folder: what the run exported, or trained once more as in the search.

    Args:
        run: Folder of the run.
        arch_id: Of one of its evaluations; the beginning is enough if it is the only one.
        output: New or empty folder.
        data: The images of the run, if it was given any; by default the bundled digits.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such network, or the run does not tell how to train it.
    """
    directory = RunDirectory.open(run)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"`--output` must be a new or empty folder, got {output}.")
    exported = sorted(path.name for path in (directory.path / "models").glob("*") if path.is_dir())
    rows = {row["arch_id"]: row for row in directory.evaluations()}
    found = _only(arch_id, sorted({*exported, *rows}), directory.path)
    if found in exported:
        shutil.copytree(directory.path / "models" / found, output, dirs_exist_ok=True)
        return output
    report = _trained(directory, rows[found], output, data)
    for sentence in report.skipped:
        print(sentence, file=sys.stderr)
    return report.folder


BUNDLED = "digits"
"""Name of the images that need no folder."""


def _only(arch_id: str, names: list[str], path: Path) -> str:
    matches = [name for name in names if name == arch_id] or [name for name in names if name.startswith(arch_id)]
    if len(matches) != 1:
        some = ", ".join((matches or names)[:3]) or "none"
        raise ValueError(
            f"`ARCH` must name one network of {path}, got {arch_id!r}. See `nasray front`; such as {some}."
        )
    return matches[0]


def _trained(directory: RunDirectory, row: dict[str, Any], output: Path, data: Path | None) -> ExportReport:
    """Train a candidate once more by the run's recipe, and export it."""
    import torch

    from nasray.data import Batches, load_image_data
    from nasray.models.export_module import export_module
    from nasray.spaces.cell import CellSpace
    from nasray.spaces.chain import ChainSpace
    from nasray.training.config import TrainingConfig
    from nasray.training.network_evaluation import NetworkEvaluationConfig, NetworkEvaluator

    configuration, described = directory.run["configuration"], directory.run["data"]
    architecture = Architecture.from_json(row.get("architecture"))
    spaces = {"cell": CellSpace, "chain": ChainSpace}
    kind = architecture.space.partition("-")[0]
    if "layout" not in configuration or kind not in spaces:
        raise ValueError(
            f"{row['arch_id']} must have been trained by a program of nasray to be trained again, but {directory.path} "
            "does not tell how. Use `export` of what nasray.search returned, or an architecture under models/."
        )
    if data is None and described["name"] != BUNDLED:
        raise ValueError(f"`--data` must name the folder of the run's images ({described['name']}), got none.")
    counts = {"holdout": described["num_holdout"], "resolution": described["resolution"]}
    # A program splits the images by the run's seed, `nasray.load_image_data` by its own.
    for seed in dict.fromkeys((directory.run["seed"], 0)):
        images = load_image_data(data, **counts, seed=seed, max_train=_train_cap(described))
        if images.fingerprint() == described["fingerprint"]:
            break
    else:
        raise ValueError(f"`--data` must be the images of the run, {described['name']}, got others. Name their folder.")
    recipe = configuration["evaluation"]
    config = NetworkEvaluationConfig(**{**recipe, "training": TrainingConfig(**recipe["training"])})
    space = spaces[kind](**configuration["layout"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = NetworkEvaluator(space, images, config, device).trained(architecture)
    few = images.test.subset(torch.arange(min(8, len(images.test))))
    return export_module(
        network,
        architecture,
        output,
        example_BCHW=next(iter(Batches(few, images, batch_size=8, num_workers=1)))[0],
        card={
            "Data": images.name,
            "Pixels": images.pixel_formula,
            "Run": directory.path.name,
            **row["metrics"],
        },
    )


def _train_cap(described: dict[str, Any]) -> int | None:
    total: int = described["num_train"] + described["num_holdout"]
    return total or None
