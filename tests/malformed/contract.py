"""What every parser owes whoever gives it a damaged input: a valid value, or one clear error."""

import os
import re
from collections import Counter, defaultdict

from hypothesis import HealthCheck, Phase, given, note, settings

EXAMPLES = int(os.environ.get("NASRAY_MALFORMED_EXAMPLES", "0"))
"""Examples of each parser; 0 takes what each test says."""

TALLY: dict[str, Counter[str]] = defaultdict(Counter)
"""Outcomes by kind of input: "accepted", or the type of the error."""

_VAGUE = ("UnicodeDecodeError", "UnicodeEncodeError", "JSONDecodeError", "ValidationError")
_SAYS_WHAT_IS_WRONG = re.compile(
    r"\b(must|cannot|is damaged|is truncated|holds no|has no|end|lacks|needs|stands|there)\b"
)


def check(kind, cases, parse, *, examples, accept=None, refusals=(ValueError,)):
    """Feed damaged inputs to a parser.

    Args:
        kind: Name of the inputs in the table at the end.
        cases: Strategy of inputs.
        parse: Reads one.
        examples: How many, unless the environment says otherwise.
        accept: Called with what `parse` returned and the case; must raise if that is silently wrong.
        refusals: Errors that the parser documents.
    """

    @settings(
        max_examples=EXAMPLES or examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def run(case):
        note(f"case: {repr(case)[:3000]}")
        try:
            found = parse(case)
        except refusals as error:
            check_clear(error)
            TALLY[kind][type(error).__name__] += 1
            return
        TALLY[kind]["accepted"] += 1
        if accept is not None:
            accept(found, case)

    run()


def check_clear(error):
    """Make sure that an error is a sentence that says what is wrong, not the insides of a library."""
    text = str(error)
    assert type(error).__name__ not in _VAGUE, repr(error)
    assert _SAYS_WHAT_IS_WRONG.search(text), text
    assert text.rstrip()[-1] in ".?)", text
    assert len(text) < 2000, text


def lines():
    """Return the table of all inputs so far."""
    rows = [(kind, sum(found.values()), found["accepted"], _errors(found)) for kind, found in sorted(TALLY.items())]
    total = sum(row[1] for row in rows)
    accepted = sum(row[2] for row in rows)
    table = [f"{'malformed inputs':<34}{'inputs':>8}{'accepted':>10}{'refused':>9}  errors"]
    table += [f"{kind:<34}{num:>8,}{taken:>10,}{num - taken:>9,}  {errors}" for kind, num, taken, errors in rows]
    return [*table, f"{'total':<34}{total:>8,}{accepted:>10,}{total - accepted:>9,}"]


def _errors(found):
    return ", ".join(f"{name} {count}" for name, count in found.most_common() if name != "accepted")
