"""What is typed: constraints, targets, objectives, places."""

import math

from contract import check
from damage import NAMES, texts

from nasray.carbon.intensity import carbon_intensity
from nasray.objectives import Constraint
from nasray.tune.netadapt_settings import Target
from nasray.tune.problems.study import parse_objectives


def test_constraints():
    def accept(found, case):
        assert math.isfinite(found.limit) and found.metric.strip() == found.metric
        assert Constraint.parse(str(Constraint(metric=found.metric, limit=1.0))).metric == found.metric

    check(
        "constraint",
        texts("latency_ms<=5", "accuracy >= 0.9", "parameters<=1e5"),
        Constraint.parse,
        examples=600,
        accept=accept,
    )


def test_targets():
    def accept(found, case):
        assert 0 < found.value < math.inf
        assert math.isclose(Target.parse(str(found)).value, found.value, rel_tol=1e-9)

    check("target", texts("50%", "225e6", "0.3"), Target.parse, examples=600, accept=accept)


def test_objectives():
    check(
        "objectives",
        texts("accuracy", "macs,latency_ms"),
        lambda case: parse_objectives([case], ["accuracy"]),
        examples=200,
        accept=lambda found, case: [objective.name.strip() for objective in found],
    )


def test_places():
    def accept(found, case):
        assert 0 <= found.g_per_kwh < math.inf and found.source

    check(
        "place",
        texts("FRA", "USA/California", "gcp/europe-west1", "56.5", *NAMES),
        carbon_intensity,
        examples=150,
        accept=accept,
    )
