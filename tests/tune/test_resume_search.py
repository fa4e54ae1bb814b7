"""A search that is killed at any moment goes on as if it had not been: the journal, without Ray."""

import json

import numpy as np
import pandas as pd
import pytest

from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.optuna_study import OptunaStrategy
from nasray.records import RunDirectory
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.evolution import AsynchronousEvolution
from nasray.strategies.random_search import RandomSearch
from nasray.strategies.surrogate import SurrogateSearch
from nasray.tune.resume_search import JOURNAL, STATE, JournalledStrategy
from nasray.tune.search_record import evaluation_row

WANTED = Pareto([Objective(name="error"), Objective(name="cost")])
NUM = 30


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def space():
    rows = [(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    frame["cost"] = frame.a + 2.0 * frame.b + frame.c
    frame["error"] = 1 / (1 + frame.a + frame.b * frame.c)
    return TabularSpace(frame, architecture="a,b,c", metrics=["cost", "error"])


def make(name, space, folder=None, seed=0):
    options = {"num_evaluations": NUM, "generator": np.random.default_rng(seed)}
    if name == "evolution":
        return AsynchronousEvolution(space, WANTED, population_size=6, **options)
    if name == "random":
        return RandomSearch(space, WANTED, **options)
    if name == "surrogate":
        return SurrogateSearch(
            space, WANTED, known=lambda a: {"cost": space.metrics(a)["cost"]}, num_initial=6, **options
        )
    storage = None if folder is None else folder / "optuna.log"
    return OptunaStrategy(space, WANTED, sampler="nsga2", population_size=6, storage=storage, **options)


def evaluate(space, architecture):
    """Look up; every seventh network or so fails."""
    if int(architecture.arch_id, 16) % 7 == 0:
        return Evaluation(status="failed", reason="out of memory")
    return Evaluation(metrics=space.metrics(architecture))


def directory(path):
    return RunDirectory.create(path, method="test", preset="", configuration={}, seed=0, data={}, resume=path.exists())


class Process:
    """A search as a process would do it, which ends after a number of things done, wherever that is."""

    def __init__(self, name, space, folder, *, at_once=1, lives=10**9, seed=0):
        self.space, self.at_once, self.lives = space, at_once, lives
        self.run = directory(folder)
        self.strategy = make(name, space, folder, seed)
        self.journal = JournalledStrategy(self.strategy, folder)

    def step(self):
        self.lives -= 1
        if self.lives < 0:
            raise KilledError

    def search(self):
        notices = self.journal.restore(self.run.evaluations())
        out = list(self.journal.out.values())
        while not self.journal.is_finished:
            while len(out) < self.at_once and (trial := self.journal.ask()):
                self.step()
                out.append(trial)
            trial = out.pop()  # the last one asked is told first
            evaluation = evaluate(self.space, trial.architecture)
            self.journal.flush()
            self.step()
            self.run.append_evaluations([evaluation_row(trial, evaluation)])
            self.step()
            self.journal.tell(trial.trial_id, evaluation)
            self.step()
            if int(trial.trial_id) % 7 == 3:
                self.journal.save()
                self.step()
        return notices


def asked(process):
    return [row["arch_id"] for row in process.run.evaluations()]


@pytest.mark.parametrize("name", ["evolution", "random", "surrogate", "nsga2"])
def test_killed_anywhere_again_and_again_it_asks_for_the_same(name, space, tmp_path):
    whole = Process(name, space, tmp_path / "whole")
    assert whole.search() == []
    generator = np.random.default_rng(0)
    kills, is_finished = 0, False
    while not is_finished:
        process = Process(name, space, tmp_path / "run", lives=int(generator.integers(1, 9)))
        record = tmp_path / "run" / "evaluations.jsonl"
        before = record.read_bytes() if record.exists() else b""
        try:
            assert process.search() == []
            is_finished = True
        except KilledError:
            kills += 1
        assert not before or record.read_bytes().startswith(before)
    assert kills >= 15
    assert asked(process) == asked(whole)
    assert len(record.read_text().splitlines()) == len(set(asked(process))) == NUM


def test_study_on_disk_holds_each_trial_once(space, tmp_path):
    generator, is_finished = np.random.default_rng(1), False
    while not is_finished:
        process = Process("nsga2", space, tmp_path / "run", lives=int(generator.integers(4, 12)))
        try:
            process.search()
            is_finished = True
        except KilledError:
            continue
    whole = Process("nsga2", space, tmp_path / "whole")
    whole.search()
    one, other = ([(t.params, t.values, t.state) for t in p.strategy.study.trials] for p in (process, whole))
    assert one == other


@pytest.mark.parametrize("damage", ["missing", "torn", "spoilt"])
def test_damaged_study_is_filled_from_the_records(damage, space, tmp_path):
    whole = Process("nsga2", space, tmp_path / "whole")
    whole.search()
    killed_after(70, "nsga2", space, tmp_path / "run")
    study = tmp_path / "run" / "optuna.log"
    if damage == "torn":
        tear_last_line(study)
    elif damage == "spoilt":
        spoil_second_line(study)
        with pytest.raises(
            ValueError, match=r"optuna.log is damaged .* Rename it: a run that goes on fills a new study"
        ):
            Process("nsga2", space, tmp_path / "run")
    if damage != "torn":
        study.rename(tmp_path / "damaged.log")
    process = Process("nsga2", space, tmp_path / "run")
    assert process.search() == []
    assert asked(process) == asked(whole)
    one, other = ({str(t.params): t.values for t in p.strategy.study.trials} for p in (process, whole))
    assert one == other


@pytest.mark.parametrize("name", ["evolution", "surrogate", "nsga2"])
def test_with_several_out_nothing_is_lost_or_counted_twice(name, space, tmp_path):
    generator, is_finished = np.random.default_rng(2), False
    while not is_finished:
        process = Process(name, space, tmp_path / "run", at_once=4, lives=int(generator.integers(3, 15)))
        try:
            assert process.search() == []
            is_finished = True
        except KilledError:
            continue
    rows = process.run.evaluations()
    assert sorted(int(row["trial_id"]) for row in rows) == list(range(NUM))
    assert len({row["arch_id"] for row in rows}) == NUM
    results = dict(process.strategy.state_dict()["results"])
    assert {key: each["status"] for key, each in results.items()} == {row["trial_id"]: row["status"] for row in rows}


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil_second_line(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:5], *lines[2:]]) + "\n")


def spoil_inside(path):
    """Leave a state whole as JSON, of which only the last part can no longer be read."""
    first, *others = path.read_text().splitlines()
    saved = json.loads(first)
    saved["strategy"][list(saved["strategy"])[-1]] = "no state"
    path.write_text("\n".join([json.dumps(saved), *others]) + "\n")


def tear_last_line(path):
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES = {
    "state cut": (lambda folder: cut(folder / STATE), ["search_state.json was damaged and is made anew"]),
    "state missing": (lambda folder: (folder / STATE).unlink(), []),
    "journal missing": (lambda folder: (folder / JOURNAL).unlink(), ["search_journal.jsonl was missing or damaged"]),
    "journal spoilt": (lambda folder: spoil_second_line(folder / JOURNAL), ["search_journal.jsonl was missing"]),
    "journal torn": (lambda folder: tear_last_line(folder / JOURNAL), []),
    "both cut": (lambda folder: [cut(folder / STATE), (folder / JOURNAL).write_text("{")], ["begins anew and is told"]),
    "state spoilt, journal missing": (
        lambda folder: [spoil_inside(folder / STATE), (folder / JOURNAL).unlink()],
        ["begins anew and is told"],
    ),
    "both spoilt": (lambda folder: [spoil_inside(folder / name) for name in (STATE, JOURNAL)], ["begins anew"]),
    "both missing": (lambda folder: [(folder / name).unlink() for name in (STATE, JOURNAL)], ["begins anew"]),
}


def killed_after(lives, name, space, folder, **options):
    with pytest.raises(KilledError):
        Process(name, space, folder, lives=lives, **options).search()


def spy_on_evaluations(monkeypatch):
    made, look_up = [], evaluate

    def spied(space, architecture):
        made.append(architecture.arch_id)
        return look_up(space, architecture)

    monkeypatch.setitem(globals(), "evaluate", spied)
    return made


@pytest.mark.parametrize("damage", sorted(DAMAGES))
@pytest.mark.parametrize("name", ["evolution", "surrogate"])
def test_damaged_files_are_made_up_for_and_said(damage, name, space, tmp_path):
    whole = Process(name, space, tmp_path / "whole")
    whole.search()
    killed_after(70, name, space, tmp_path / "run")
    spoil, sentences = DAMAGES[damage]
    spoil(tmp_path / "run")
    process = Process(name, space, tmp_path / "run")
    rows = process.run.evaluations()
    # As `run_search` and `search_in_batches` do: what is asked again is told from the record.
    known = {(row["trial_id"], row["arch_id"]): row for row in rows}
    notices = process.journal.restore(rows)
    assert [text in notice for text, notice in zip(sentences, notices, strict=True)] == [True] * len(sentences)
    out = list(process.journal.out.values())
    while not process.journal.is_finished:
        trial = out.pop() if out else process.journal.ask()
        evaluation = evaluate(space, trial.architecture)
        if (trial.trial_id, trial.architecture.arch_id) not in known:
            process.run.append_evaluations([evaluation_row(trial, evaluation)])
        process.journal.tell(trial.trial_id, evaluation)
    assert asked(process) == asked(whole)


def test_recorded_failures_are_not_made_again(space, tmp_path, monkeypatch):
    killed_after(60, "evolution", space, tmp_path / "run")
    before = {row["arch_id"]: row["status"] for row in directory(tmp_path / "run").evaluations()}
    assert "failed" in before.values()
    made = spy_on_evaluations(monkeypatch)
    Process("evolution", space, tmp_path / "run").search()
    assert not set(made) & before.keys()


def test_another_strategy_is_told_that_it_differs(space, tmp_path):
    killed_after(40, "random", space, tmp_path / "run")
    (tmp_path / "run" / STATE).unlink()
    text = (tmp_path / "run" / JOURNAL).read_text()
    (tmp_path / "run" / JOURNAL).write_text(text.replace('"ask": "2", "arch_id": "', '"ask": "2", "arch_id": "0'))
    process = Process("random", space, tmp_path / "run")
    assert ["could not be repeated" in notice for notice in process.search()] == [True]
    assert len(process.strategy.state_dict()["results"]) == NUM


def test_deleted_line_of_the_record_is_evaluated_again(space, tmp_path):
    killed_after(40, "evolution", space, tmp_path / "run")
    path = tmp_path / "run" / "evaluations.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4] + lines[5:]))
    (tmp_path / "run" / STATE).unlink()
    process = Process("evolution", space, tmp_path / "run")
    assert ["no longer on the record" in notice for notice in process.search()] == [True]
    assert {row["trial_id"] for row in process.run.evaluations()} == {str(number) for number in range(NUM)}


def test_state_is_not_saved_in_the_middle_of_an_ask(space, tmp_path, monkeypatch):
    process = Process("evolution", space, tmp_path / "run")
    process.journal.restore([])

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(process.strategy, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.journal.ask()
    process.journal.save()
    assert not (tmp_path / "run" / STATE).exists()
