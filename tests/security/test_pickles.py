"""A pickle in place of any file that is read: refused in a sentence, and nothing of it is run."""

import io
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

from nasray.carbon.ledger import ENERGY_FILE, EnergyLedger
from nasray.carbon.nas_costs import read_methods
from nasray.data import load_image_data
from nasray.data.safe_pickle import read_array_pickle
from nasray.hardware.block_table import BlockTable
from nasray.hardware.imported_tables import table_names
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.predictor import CostPredictor
from nasray.models.anytime_export import load_exits
from nasray.models.plain import PlainNetwork
from nasray.models.stored_network import load_network, store_network
from nasray.objectives import Objective
from nasray.optuna_study.storage import open_storage
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.spaces.genotype import Genotype
from nasray.spaces.mobile_networks import mobile_space
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.checkpoints import load_progress, load_state, load_weights
from nasray.tune.multi_objective_halving import MultiObjectiveHalving
from nasray.tune.strategy_searcher import StrategySearcher


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plain(bomb):
    return pickle.dumps(bomb)


def old(bomb):
    return pickle.dumps({"data": bomb}, 0)


def torch_archive(bomb):
    torch.save({"model": bomb}, buffer := io.BytesIO())
    return buffer.getvalue()


def torch_legacy(bomb):
    torch.save({"model": bomb}, buffer := io.BytesIO(), _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def numpy_objects(bomb):
    np.save(buffer := io.BytesIO(), np.array([bomb], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zipped(bomb):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(bomb))
        archive.writestr("archive/zeros", bytes(10_000_000))
    return buffer.getvalue()


DISGUISES = (plain, old, torch_archive, torch_legacy, numpy_objects, zipped)


def stored(folder, name, content):
    """Return a stored network of which one file is the content."""
    space = mobile_space("mobile-8", num_classes=10, in_channels=1, resolution=8)
    store_network(PlainNetwork(space.plan(space.smallest())), space.smallest(), folder)
    (folder / name).write_bytes(content)
    return folder


def beside(folder, name, content):
    (folder / name).write_bytes(content)
    return folder


def a_run(folder, name, content):
    settings = {"configuration": {}, "data": {}, "method": "m", "preset": "p", "seed": 0, "resume": False}
    run = RunDirectory.create(folder / "run", **settings)
    (run.path / name).write_bytes(content)
    return RunDirectory.open(run.path)


def searcher():
    wanted = Objective(name="accuracy", direction="maximize")
    from nasray.formulations import Pareto

    strategy = AsynchronousEvolution(
        CellSpace(), Pareto([wanted]), num_evaluations=9, generator=np.random.default_rng(0)
    )
    return StrategySearcher(strategy)


READERS = {
    "genotype": lambda folder, content: Genotype.load(beside(folder, "g.json", content) / "g.json"),
    "lookup table": lambda folder, content: LatencyTable.load(beside(folder, "t.jsonl", content) / "t.jsonl"),
    "block table": lambda folder, content: BlockTable.load(beside(folder, "t.json", content) / "t.json"),
    "published parquet": lambda folder, content: table_names(beside(folder, "t.parquet", content) / "t.parquet"),
    "published CSV": lambda folder, content: table_names(beside(folder, "t.csv", content) / "t.csv"),
    "tabular parquet": lambda folder, content: TabularSpace.from_file(
        beside(folder, "t.parquet", content) / "t.parquet", architecture="a"
    ),
    "tabular CSV": lambda folder, content: TabularSpace.from_file(
        beside(folder, "t.csv", content) / "t.csv", architecture="a"
    ),
    "search costs": lambda folder, content: read_methods(beside(folder, "m.csv", content) / "m.csv"),
    "predictor": lambda folder, content: CostPredictor.load(beside(folder, "p.json", content) / "p.json", CellSpace()),
    "architecture.json": lambda folder, content: load_network(stored(folder, "architecture.json", content)),
    "weights.safetensors": lambda folder, content: load_network(stored(folder, "weights.safetensors", content)),
    "network with exits": lambda folder, content: load_exits(beside(folder, "architecture.json", content)),
    "state.pt": lambda folder, content: load_state(beside(folder, "state.pt", content)),
    "checkpoint's weights": lambda folder, content: load_weights(beside(folder, "weights.safetensors", content)),
    "progress.json": lambda folder, content: load_progress(beside(folder, "progress.json", content)),
    "search_state.json": lambda folder, content: searcher().restore(str(beside(folder, "s.json", content) / "s.json")),
    "scheduler's state": lambda folder, content: MultiObjectiveHalving(
        [Objective(name="accuracy", direction="maximize")], time_attr="epoch", max_t=9
    ).restore(str(beside(folder, "s.json", content) / "s.json")),
    "CIFAR batch": lambda folder, content: read_array_pickle(beside(folder, "data_batch_1", content) / "data_batch_1"),
    "CIFAR folder": lambda folder, content: load_image_data(beside(folder, "data_batch_1", content)),
    "parquet of images": lambda folder, content: load_image_data(beside(folder, "train.parquet", content)),
    "run.json": lambda folder, content: a_run(folder, "run.json", content),
    "evaluations.jsonl": lambda folder, content: a_run(folder, "evaluations.jsonl", content + b"\n{}\n").evaluations(),
    "front.json": lambda folder, content: a_run(folder, "front.json", content).read_json("front.json"),
    "energy.json": lambda folder, content: EnergyLedger.of_folder(beside(folder, ENERGY_FILE, content)),
    "Optuna's journal": lambda folder, content: open_storage(beside(folder, "o.log", content + b"\n") / "o.log"),
    "Optuna's database": lambda folder, content: open_storage(f"sqlite:///{beside(folder, 'o.db', content) / 'o.db'}"),
}


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_is_refused_and_not_run(reader, disguise, tmp_path):
    fired = tmp_path / "fired"
    (folder := tmp_path / "files").mkdir()
    with pytest.raises(ValueError, match=r"must|damaged|truncated|holds no") as caught:
        READERS[reader](folder, disguise(Bomb(fired)))
    assert not fired.exists()
    assert "weights_only" not in str(caught.value), "PyTorch's advice on how to run the file is no remedy"


def test_the_bomb_would_go_off(tmp_path):
    pickle.loads(plain(Bomb(tmp_path / "fired")))
    assert (tmp_path / "fired").is_dir()
    shutil.rmtree(tmp_path / "fired")
    torch.load(io.BytesIO(torch_archive(Bomb(tmp_path / "fired"))), weights_only=False)
    assert (tmp_path / "fired").is_dir()


def test_a_checkpoint_that_is_a_pickle_is_passed_over(tmp_path):
    folder = tmp_path / "search-1" / "trial" / "checkpoint_000001"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(plain(Bomb(tmp_path / "fired")))
    assert CheckpointStore.local(tmp_path).newest("search", "trial") is None
    assert not (tmp_path / "fired").exists()
