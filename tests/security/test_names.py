"""Names never lead out of the folder that they are for."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nasray.architecture import Architecture
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory, RunError
from nasray.records.files import check_name
from nasray.spaces.cell import CellSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.tune.candidate_search_run import _trial_name
from nasray.tune.strategy_searcher import StrategySearcher

ESCAPES = (
    "../x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/../../b",
    "a\\..\\b",
    "C:\\x",
    "\x00",
    "a\nb",
    ".hidden",
    "x" * 300,
    "~/..",
)
PARTS = st.lists(
    st.sampled_from(("a", "..", ".", "/", "\\", "~", "\x00", "é", " ", "%2e%2e", "\u2024\u2024", "\uff0f")), max_size=6
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"configuration": {}, "data": {}, "method": "m", "preset": "p", "seed": 0, "resume": False}
    return RunDirectory.create(tmp_path_factory.mktemp("names") / "run", **settings)


@settings(derandomize=True, database=None, max_examples=300, deadline=None)
@given(PARTS.map("".join))
@example("../../etc/passwd")
def test_a_name_that_is_taken_stays_in_its_folder(run, name):
    for path_of in (run.model_directory, lambda name: run.path / check_name(name, "name")):
        try:
            path = path_of(name)
        except RunError:
            continue
        assert path.resolve().parent in (run.path.resolve(), (run.path / "models").resolve())
        assert path.resolve() not in (run.path.resolve(), (run.path / "models").resolve())


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out_are_refused(run, name, tmp_path):
    with pytest.raises(RunError, match="must be a name"):
        run.model_directory(name)
    with pytest.raises(RunError, match="must be a name"):
        run.read_json(name)
    with pytest.raises(RunError, match="must be a name"):
        run.write_json(name, {})
    with pytest.raises(RunError, match="must be a name"):
        run.append_evaluations([{"sample_id": "1", "arch_id": name, "status": "ok"}])
    with pytest.raises(ValueError, match="`space` must match"):
        Architecture.of(f"{name}/", {})


def test_ids_of_architectures_are_hexadecimal_whatever_they_choose():
    assert Architecture.of("a", {"../../x": "/etc/passwd"}).arch_id.isalnum()


def test_candidates_of_a_saved_search_name_no_other_folder(tmp_path):
    formulation = Pareto([Objective(name="accuracy", direction="maximize")])
    space, generator = CellSpace(), np.random.default_rng(0)
    searcher = StrategySearcher(AsynchronousEvolution(space, formulation, num_evaluations=3, generator=generator))
    searcher.suggest("t1")
    state = json.loads(json.dumps(searcher.get_state()))
    ((_, architecture),) = state["candidates"].items()
    state |= {"candidates": {"../../x": architecture}, "running": {}, "queue": ["../../x"]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="must be a name"):
        searcher.restore(str(tmp_path / "state.json"))


def test_trials_are_not_named_after_other_folders():
    trial = SimpleNamespace(config={"candidate_id": "../../x", "architecture": "{}"}, trial_id="1")
    with pytest.raises(RunError, match="must be a name"):
        _trial_name(trial)
