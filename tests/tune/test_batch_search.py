import io

import numpy as np
import pytest
from rich.console import Console

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.spaces.cell import CellSpace
from nasray.strategies.random_search import RandomSearch
from nasray.tune.batch_search import search_in_batches
from nasray.tune.failure_limit import FailureLimit, TooManyFailuresError
from nasray.tune.progress import StageProgress


def test_batch_in_which_too_many_fail_ends_the_search_and_is_gone_on_with(tmp_path):
    def search(evaluate_one):
        limit = FailureLimit(3)

        def evaluate(architectures):
            found = []
            for architecture in architectures:
                found.append(None if limit.is_reached else evaluate_one(architecture))
                if found[-1] is not None:
                    limit.note(architecture.arch_id, found[-1])
            return found

        path = tmp_path / "run"
        run = RunDirectory.create(
            path, method="test", preset="", configuration={}, seed=0, data={}, resume=path.exists()
        )
        wanted = Pareto([Objective(name="accuracy", direction="maximize")])
        generator = np.random.default_rng(0)
        strategy = RandomSearch(CellSpace(), wanted, num_evaluations=20, generator=generator)
        progress = StageProgress(Console(file=io.StringIO()), is_quiet=True)
        try:
            search_in_batches(strategy, evaluate, run=run, progress=progress, batch_size=8, limit=limit)
        finally:
            rows = run.evaluations()
        return rows, strategy

    evaluated = []

    def good_then_bad(architecture):
        evaluated.append(architecture.arch_id)
        if len(evaluated) <= 9:
            return Evaluation(metrics={"accuracy": 0.5})
        return Evaluation(status="failed", reason="accuracy is nan")

    with pytest.raises(TooManyFailuresError, match="after 3 failed candidates in a row: accuracy is nan"):
        search(good_then_bad)
    assert len(evaluated) == 12
    rows, strategy = search(lambda architecture: Evaluation(metrics={"accuracy": 0.7}))
    assert strategy.is_finished
    assert [row["status"] for row in rows].count("failed") == 3
    assert [row["metrics"].get("accuracy") for row in rows] == [0.5] * 9 + [None] * 3 + [0.7] * 8
    assert len({row["arch_id"] for row in rows}) == 20
