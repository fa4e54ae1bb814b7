"""HTML that is escaped unless it says otherwise: what comes from a run's files can never become markup."""

from __future__ import annotations

import html
import json
from typing import Any

_VOID = frozenset({"meta", "br"})


class Html(str):
    """Text that is markup already, made by `element` or written in this package; it is not escaped again."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Write one HTML element.

    Args:
        tag: Its name.
        children: `Html` stays as it is, everything else is escaped; `None` is left out.
        attributes: Escaped values. "class_" means "class", other underscores mean hyphens; `True` gives a bare
            attribute, `None` and `False` leave it out.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def join(*children: object) -> Html:
    """Write several things one after the other, escaping what is not `Html`."""
    return Html("".join(_escape(child) for child in children if child is not None))


def json_block(block_id: str, value: Any) -> Html:
    """Write data for the page's script; no text in it can end the block."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", Html(text), type="application/json", id=block_id)


def _escape(child: object) -> str:
    return child if isinstance(child, Html) else html.escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
