"""Tables of cells and chains: keys cover all networks, pieces compute what the networks do."""

import numpy as np
import pytest
import torch

from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.lookup_table import LatencyTable, LookupLatency
from nasray.hardware.piece_key import PieceKey, cell_keys
from nasray.hardware.piece_modules import build_piece
from nasray.hardware.table_builder import build_latency_table
from nasray.hardware.table_check import check_latency_table
from nasray.hardware.table_keys import plan_keys, space_keys
from nasray.models.build import build_network
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace

CELL = CellSpace(merge_isomorphic=False, num_cells=2, resolution=8, channels=4, num_classes=3)
CHAIN = ChainSpace(num_classes=3, in_channels=2, resolution=8, num_feature_slots=4, num_head_slots=2)


def chains(num):
    return [CHAIN.random(np.random.default_rng(seed)) for seed in range(num)]


def test_the_keys_of_the_cell_space_are_those_of_all_its_cells():
    found = {key for each in CELL.enumerate(10**6)[::13] for key in cell_keys(CELL.plan(each))}
    assert found == set(space_keys(CELL))
    assert len(space_keys(CELL)) == 1 + 2 + 1 + 3 * (3 + 4)


def test_pieces_have_the_weights_of_the_network():
    for space, architectures in ((CELL, [CELL.largest(), CELL.smallest()]), (CHAIN, chains(5))):
        for each in architectures:
            network = build_network(space, each)
            pieces = [build_piece(key) for key in plan_keys(space.plan(each))]
            counts = [sum(p.numel() for p in module.parameters()) for module in (network, *pieces)]
            assert counts[0] == sum(counts[1:])
            with torch.inference_mode():
                for key, piece in zip(plan_keys(space.plan(each)), pieces, strict=True):
                    piece.eval()(torch.zeros(2, *key.in_shape))


def test_tables_are_built_kept_and_checked_for_cells_and_chains(tmp_path):
    for space, architectures in ((CELL, None), (CHAIN, chains(3))):
        path, options = tmp_path / f"{space.name}.jsonl", {"budget_s": 0.0, "rounds": 1, "architectures": architectures}
        table = build_latency_table(path, space, **options)
        assert set(table.entries) == set(space_keys(space, architectures))
        again = build_latency_table(path, space, progress=lambda *_: pytest.fail("timed again"), **options)
        assert again == table
        checked = check_latency_table(
            path,
            space,
            generator=np.random.default_rng(0),
            count=2,
            rounds=1,
            budget_s=0.0,
            architectures=architectures,
        )
        assert checked.checks[space.name].num_networks == (2 if architectures is None else 3)
        cost = LookupLatency(space, table)
        chosen = CELL.largest() if architectures is None else architectures[0]
        assert cost(chosen).value == pytest.approx(sum(table.entries[key] for key in plan_keys(space.plan(chosen))))


def test_chains_need_their_networks_named_and_a_missing_layer_is_said():
    with pytest.raises(ValueError, match="`architectures` must name the chains whose layers are wanted"):
        space_keys(CHAIN)
    entries = {PieceKey("chain linear", (1,), (("has_batch_norm", False), ("units", 1))): 1.0}
    table = LatencyTable(device=DeviceFingerprint.of("cpu"), batch_size=1, entries=entries)
    with pytest.raises(ValueError, match="`table` must hold every layer of 'this space', got none for kind chain"):
        LookupLatency(CHAIN, table)(chains(1)[0])
    with pytest.raises(ValueError, match="must hold every layer of 'cell'"):
        LookupLatency(CELL, table)


def test_an_unknown_piece_is_refused():
    with pytest.raises(ValueError, match=r"`kind` must be that of a piece .* got 'odd'"):
        build_piece(PieceKey("odd", (1, 2, 2)))
