import pytest
from rich.console import Console

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.candidates import Candidates
from nasray.report.trade_offs import trade_off_rows, trade_off_table, trade_offs_of

OBJECTIVES = [
    Objective(name="accuracy", direction="maximize", ideal=1.0),
    Objective(name="parameters"),
    Objective(name="inference_time_s", unit="s"),
]
FOUND = [(0.99, 1e6, 0.5), (0.98, 2e5, 0.1), (0.97, 1e5, 0.4), (0.3, 1e2, 0.3), (0.2, 5e2, 0.01)]


def archive() -> ParetoArchive:
    kept = ParetoArchive(Pareto(OBJECTIVES))
    for number, row in enumerate(FOUND):
        metrics = dict(zip(("accuracy", "parameters", "inference_time_s"), row, strict=True)) | {"macs": 7.0}
        kept.add(str(number), Architecture.of("s", {"n": number}), Evaluation(metrics=metrics))
    return kept


def test_extremes_and_trade_offs_are_chosen() -> None:
    rows = trade_off_rows(archive(), also=("macs",))
    assert {row["network"]: row["trial_id"] for row in rows} == {
        "best accuracy": "0",
        "least parameters": "3",
        "least inference time": "4",
        "trade-off, parameters": "1",
        "trade-off, inference time": "1",
        "best trade-off": "1",
    }
    assert rows[-1]["saves"] == {"parameters": 5.0, "inference_time_s": 5.0}
    assert rows[0]["metrics"]["macs"] == 7.0


def test_the_table_says_what_is_saved() -> None:
    console = Console(width=200, record=True)
    console.print(trade_off_table(trade_off_rows(archive())))
    text = console.export_text()
    assert "200.0 K" in text
    assert "5x less" in text
    assert "99.00 %" in text


def test_the_report_of_a_run_with_trade_offs_shows_them(tmp_path) -> None:
    run = RunDirectory.create(
        tmp_path / "run", method="evolution", preset="menndl", configuration={}, seed=0, data={}, resume=False
    )
    run.append_evaluations(
        [
            {
                "sample_id": str(number),
                "trial_id": str(number),
                "arch_id": str(number),
                "status": "ok",
                "metrics": {"accuracy": row[0], "parameters": row[1], "test_accuracy": row[0]},
            }
            for number, row in enumerate(FOUND)
        ]
    )
    run.update(status="done", trade_offs=trade_off_rows(archive()))
    text = write_report(run).read_text()
    assert "best trade-off" in text
    assert "5x less" in text
    assert "Candidate by candidate" in text
    assert "The front of Accuracy against Parameters" in text
    assert "The front of Accuracy against Test accuracy" not in text
    assert "No iteration" not in text


# Accuracies of networks in percent and their latencies: the last millisecond buys little.
TABULAR = [(73.14, 2.18), (72.12, 1.54), (71.5, 1.3), (68.0, 1.2), (60.0, 1.1)]


def tabular(scale: float) -> Candidates:
    rows = []
    for number, (accuracy, latency_ms) in enumerate(TABULAR):
        architecture = Architecture.of("s", {"n": number})
        metrics = {"accuracy": scale * accuracy, "latency_ms": latency_ms, "energy_mj": 9.0 - number}
        rows.append(
            {
                "trial_id": str(number),
                "arch_id": architecture.arch_id,
                "architecture": architecture.to_json(),
                "status": "ok",
                "metrics": metrics,
            }
        )
    objectives = ["accuracy", "latency_ms", "energy_mj"]
    return Candidates.of_run({"configuration": {"objectives": objectives}}, None, rows)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_where_the_search_weighs_nothing_the_trade_off_is_a_compromise_whatever_the_scale(scale: float) -> None:
    rows = {row["network"]: row["trial_id"] for row in trade_offs_of({}, tabular(scale))}
    assert rows["best accuracy"] == "0" and rows["least latency"] == "4"
    # Of the largest distances, 40 points from 100 % and 2.18 ms: 0.45 + 1, 0.49 + 0.50, 0.51 + 0.36, 0.64 + 0.30, ...
    assert rows["trade-off, latency"] == "2"


def test_a_trade_off_of_two_is_that_of_their_own_front() -> None:
    # The third is on the front of all three for its energy alone; its latency would make those of the others alike.
    figures = [(0.9, 4.0, 5.0), (0.88, 1.0, 6.0), (0.7, 40.0, 1.0)]
    rows = [
        {
            "trial_id": str(number),
            "architecture": Architecture.of("s", {"n": number}).to_json(),
            "status": "ok",
            "metrics": dict(zip(("accuracy", "latency_ms", "energy_mj"), row, strict=True)),
        }
        for number, row in enumerate(figures)
    ]
    objectives = (OBJECTIVES[0], Objective(name="latency_ms"), Objective(name="energy_mj"))
    found = trade_offs_of({}, Candidates(rows=rows, objectives=objectives))
    # (10 / 12) ** 2 + 1 against 1 + 0.25 ** 2; in units of the third's distances 0.12 against 0.16.
    assert {row["network"]: row["trial_id"] for row in found}["trade-off, latency"] == "1"
