"""Valid documents, damaged: hypothesis strategies for JSON values, for the bytes of any file, and for lines of text."""

import copy
import json
import os
import pickle
from enum import Enum

from hypothesis import strategies as st

NAMES = ("../../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\x", "x" * 300, "\x00", "é", "\u202e", "con")
"""Names that lead, or would lead, somewhere else."""

VALUES = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**63) - 1, 10**49, 10**400, 0.5, -0.0, 1e-308, 1e308, -1e308, 8.0,
    float("nan"), float("inf"), float("-inf"), "", "0", "1e400", "NaN", "null", "\ud800", "a\x00b", "x" * 600,
    [], [[]], [None], {}, {"": None}, {"a": {"b": []}}, *NAMES,
)  # fmt: skip


class Entry(Enum):
    """What may stand where a file is expected."""

    FOLDER = "folder"
    MISSING = "nothing"
    LOOP = "link to itself"
    DANGLING = "link to nothing"


class Bomb:
    """Its unpickling makes a folder: whoever finds it there knows that code was run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Content(bytes):
    """Content of a file, short where it is shown."""

    def __repr__(self):
        return f"{bytes(self[:400])!r}{'...' if len(self) > 400 else ''}"


PICKLES = tuple(pickle.dumps({"a": 1}, protocol) for protocol in (0, 2, 5))


def place(path, case):
    """Put a case where a parser will look for its file; return the path."""
    if isinstance(case, bytes):
        path.write_bytes(case)
    elif case is Entry.FOLDER:
        path.mkdir()
    elif case is Entry.LOOP:
        path.symlink_to(path.name)
    elif case is Entry.DANGLING:
        path.symlink_to("nowhere")
    return path


def paths(value, most=None):
    """Return the path of every part of a document, the whole first; of long lists at most so many parts."""
    found = [()]
    for path in found:
        part = at(value, path)
        if isinstance(part, dict):
            found += [(*path, key) for key in part]
        elif isinstance(part, list):
            length = len(part)
            keys = range(length) if most is None or length <= most else (*range(most - 1), length - 1)
            found += [(*path, key) for key in keys]
    return found


def at(value, path):
    for key in path:
        value = value[key]
    return value


@st.composite
def json_values(draw, document):
    """A JSON value with one to three faults; `document` is a value, or a list of them to start from."""
    value = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        value = _with_fault(draw, value)
    return value


def _value(draw):
    return copy.deepcopy(draw(st.sampled_from(VALUES)))


def _with_fault(draw, value):
    places = paths(value, most=12)
    path = draw(st.sampled_from(places))
    fault = draw(st.sampled_from(("replace", "drop", "rename", "add", "wrap", "nest", "swap", "twice", "negate")))
    if not path:
        return _value(draw) if fault == "replace" else _in_whole(draw, value, fault)
    owner, key = at(value, path[:-1]), path[-1]
    if fault == "drop":
        del owner[key]
    elif fault == "rename" and isinstance(owner, dict):
        owner[draw(st.sampled_from(NAMES))] = owner.pop(key)
    elif fault == "twice" and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[key]))
    elif fault == "wrap":
        owner[key] = draw(st.sampled_from(([owner[key]], {"a": owner[key]}, str(owner[key])[:50])))
    elif fault == "nest":
        owner[key] = _nested(draw(st.sampled_from((5, 99, 400))))
    elif fault == "swap":
        owner[key] = copy.deepcopy(at(value, draw(st.sampled_from(places[-40:]))))
    elif fault == "negate" and isinstance(owner[key], int | float):
        owner[key] = draw(st.sampled_from((-owner[key], owner[key] * 1000, owner[key] + 1, str(owner[key]))))
    elif fault == "add" and isinstance(owner[key], dict):
        owner[key][draw(st.sampled_from(("extra", *NAMES)))] = _value(draw)
    else:
        owner[key] = _value(draw)
    return value


def _in_whole(draw, value, fault):
    if isinstance(value, dict) and fault in ("add", "twice"):
        return {**value, draw(st.sampled_from(("extra", *NAMES))): _value(draw)}
    return [value] if fault == "wrap" else _nested(200) if fault == "nest" else value


def _nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def dumps(value):
    """Return JSON as a careless program writes it: with NaN, Infinity and half surrogates."""
    return json.dumps(value).encode()


@st.composite
def json_files(draw, document):
    """The content of a damaged JSON file, or what stands in its place."""
    if draw(st.booleans()):
        return dumps(draw(json_values(document)))
    return draw(files(dumps(document)))


@st.composite
def line_files(draw, rows):
    """The content of a damaged file of JSON lines, or what stands in its place."""
    if draw(st.booleans()):
        changed = draw(json_values(list(rows)))
        changed = changed if isinstance(changed, list) else [changed]
        return b"".join(dumps(row) + b"\n" for row in changed)
    return draw(files(b"".join(dumps(row) + b"\n" for row in rows)))


@st.composite
def files(draw, content, *, entries=True):
    """Damaged content of any file, or what stands in its place: always something else than the content."""
    kinds = (_truncated, _flipped, _inserted, _repeated, _encoded, _of_others, _numbers, _lines, _shuffled)
    kinds = (*kinds, _entry) if entries else kinds
    found = draw(st.sampled_from(kinds))(draw, content)
    found = found if found != content else content[: len(content) // 2]
    return Content(found) if isinstance(found, bytes) else found


def _truncated(draw, content):
    return content[: draw(st.integers(0, max(0, len(content) - 1)))]


def _flipped(draw, content):
    changed = bytearray(content or b"\0")
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _inserted(draw, content):
    place = draw(st.integers(0, len(content)))
    return (
        content[:place]
        + draw(st.sampled_from((b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b'"', b",", b"\r")))
        + content[place:]
    )


def _repeated(draw, content):
    return draw(st.sampled_from((content + content, content[1:] + content[:1], content * 3, content + b"\0" * 64)))


def _encoded(draw, content):
    text = content.decode("latin1")
    codec = draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037")))
    return text.encode(codec)


def _of_others(draw, content):
    others = (
        b"",
        b"\0",
        b"{}",
        b"[]",
        b"null",
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b"PK\x03\x04",
        b"PAR1PAR1",
        b"\x93NUMPY",
    )
    return draw(st.sampled_from((*others, b"\x1f\x8b", b"1" * 10_000, b"# comment\n", b"\n\n\n", *PICKLES)))


def _numbers(draw, content):
    """Put something else for one of the numbers of a text."""
    digits = [index for index in range(len(content)) if content[index : index + 1].isdigit()]
    if not digits:
        return content[::-1]
    place = draw(st.sampled_from(digits[:: max(1, len(digits) // 500)]))
    other = draw(
        st.sampled_from((b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1", b"9" * 400, b"0x10", b"", b"1.5", b"--1"))
    )
    return content[:place] + other + content[place + 1 :]


def _lines(draw, content):
    lines = content.splitlines(keepends=True) or [b"\n"]
    place = draw(st.integers(0, len(lines) - 1))
    fault = draw(st.sampled_from(("drop", "twice", "longer", "shorter", "empty")))
    line = lines[place]
    changes = {
        "drop": [],
        "twice": [line, line],
        "longer": [line.rstrip(b"\n") + b",surplus\n"],
        "shorter": [line.rpartition(b",")[0] + b"\n"],
        "empty": [b"\n"],
    }
    return b"".join([*lines[:place], *changes[fault], *lines[place + 1 :]])


def _shuffled(draw, content):
    lines = content.splitlines(keepends=True)
    return b"".join(draw(st.permutations(lines[:50]))) + b"".join(lines[50:])


def _entry(draw, content):
    return draw(st.sampled_from(Entry))


def texts(*valid):
    """Texts beside valid ones: cut, joined, with other characters and numbers put in."""
    alphabet = st.sampled_from("0123456789.,;:%<>=+-eE_~|/\\ \t\n\x00\"'aZéß\u202e٣½")
    pieces = st.sampled_from((*valid, *NAMES, "nan", "inf", "1e999", "-5", "9" * 400, "<=", ">=", "%"))
    cut = st.builds(
        lambda text, a, b: text[:a] + text[b:], st.sampled_from(valid), st.integers(0, 30), st.integers(0, 30)
    )
    return st.one_of(pieces, cut, st.text(alphabet, max_size=30), st.builds(lambda a, b: a + b, pieces, pieces))
