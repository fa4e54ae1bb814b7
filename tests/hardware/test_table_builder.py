from pathlib import Path

import numpy as np
import pytest
import torch

from nasray.hardware.device import DeviceFingerprint
from nasray.hardware.layer_key import required_keys
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.table_builder import build_latency_table
from nasray.hardware.table_check import check_latency_table, compare
from nasray.hardware.table_file import read_rows
from nasray.spaces.mobile import MobileSpace


class KilledError(Exception):
    """Stands for a build that is killed."""


def build(path: Path, space: MobileSpace, **settings) -> LatencyTable:
    return build_latency_table(path, space, budget_s=0.0, rounds=2, **settings)


def test_build_times_every_layer_once_in_each_round(tmp_path: Path, tiny_space: MobileSpace) -> None:
    path, seen = tmp_path / "new" / "table.jsonl", []
    table = build(path, tiny_space, progress=lambda done, total: seen.append((done, total)))
    keys = required_keys(tiny_space)
    assert set(table.entries) == set(keys)
    assert seen == [(done, 2 * len(keys)) for done in range(1, 2 * len(keys) + 1)]
    header, *rows = read_rows(path)
    assert (header["unit"], header["batch_size"]) == ("ms", 1)
    assert table.device == DeviceFingerprint.of("cpu", threads=1)
    order = [tuple(row["layer"].values()) for row in rows]
    assert sorted(order[: len(keys)]) == sorted(order[len(keys) :]) == keys
    assert order[: len(keys)] != keys
    assert all(value > 0 for value in table.entries.values())


def test_a_killed_build_continues_and_times_nothing_again(tmp_path: Path, tiny_space: MobileSpace) -> None:
    path, total = tmp_path / "table.jsonl", 2 * len(required_keys(tiny_space))

    def kill(done: int, _: int) -> None:
        if done == total - 10:
            raise KilledError("by the test")

    with pytest.raises(KilledError, match="by the test"):
        build(path, tiny_space, progress=kill)
    path.write_bytes(path.read_bytes()[:-20])  # the line being written is torn
    before, seen = path.read_bytes(), []
    table = build(path, tiny_space, progress=lambda done, _: seen.append(done))
    assert seen == list(range(total - 10, total + 1))
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert len(read_rows(path)) == 1 + total
    assert build(path, tiny_space, progress=lambda *_: pytest.fail("timed again")) == table


def test_a_build_killed_in_its_header_starts_anew(tmp_path: Path, tiny_space: MobileSpace) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"schema_version"')
    build(path, tiny_space).check_covers(tiny_space)


def test_build_refuses_to_continue_with_other_settings(tmp_path: Path, tiny_space: MobileSpace) -> None:
    path = tmp_path / "table.jsonl"
    build(path, tiny_space)
    with pytest.raises(ValueError, match=r"`batch_size` and `threads` must be 1 and 1 to continue .*, got 2 and 1"):
        build(path, tiny_space, batch_size=2)
    with pytest.raises(ValueError, match=r"must be 1 and 1 to continue .*, got 1 and 2"):
        build(path, tiny_space, threads=2)


def test_build_leaves_the_generator_and_threads_alone(tmp_path: Path, tiny_space: MobileSpace) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    build(tmp_path / "table.jsonl", tiny_space)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_check_is_stored_with_the_table(tmp_path: Path, tiny_space: MobileSpace) -> None:
    path = tmp_path / "table.jsonl"
    build(path, tiny_space)
    table = check_latency_table(path, tiny_space, generator=np.random.default_rng(0), count=3, rounds=1, budget_s=0.0)
    check = table.checks["tiny"]
    assert check.num_networks == 3
    assert check.median_ratio > 0
    assert -1 <= check.kendall_tau <= 1
    assert LatencyTable.load(path) == table
    assert check.describe() in table.describe()


def test_check_needs_two_networks(tmp_path: Path, tiny_space: MobileSpace) -> None:
    with pytest.raises(ValueError, match="`count` must be at least 2 to compare ranks, got 1"):
        check_latency_table(tmp_path / "none", tiny_space, generator=np.random.default_rng(0), count=1)


def test_compare_has_the_textbook_values() -> None:
    check = compare("tiny", [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.5, 2.4])
    assert check.median_ratio == pytest.approx((1.0 + 1.2) / 2)
    assert check.mean_absolute_percentage_error == pytest.approx(100 * (0.5 + 0.0 + 0.2 + 1.6 / 2.4) / 4)
    assert check.kendall_tau == pytest.approx((4 - 1) / 6)  # one tie, one discordant pair
