"""Keep passwords out of what is printed, recorded and shown."""

from __future__ import annotations

import re

_USER_INFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)(?P<user>[^\s:/?#]*):[^\s/]*@")
_IN_QUERY = re.compile(r"(?P<name>[?&](?:\w*(?:password|passwd|pwd|secret|token|_key)\w*|sig)=)[^&\s]*", re.IGNORECASE)


def hide_passwords(text: str) -> str:
    """Return a text in which the passwords of URLs are three stars.

    Hidden is what stands between the user and the host, as in `postgresql://user:secret@host/db`, and what a query
    calls a password or a token.
    """
    text = _USER_INFO.sub(r"\g<scheme>\g<user>:***@", text)
    return _IN_QUERY.sub(r"\g<name>***", text)
