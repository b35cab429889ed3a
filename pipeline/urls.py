"""URLs as browsers read them (the WHATWG standard): text of a page in, one normal form out, or None."""

from __future__ import annotations

import ada_url

MAX_URL_CHARS = 8_192
"""Characters of a URL, before and after normalising; browsers and servers rarely take more."""

FETCHABLE = ("http", "https", "file")
"""Schemes that can name a page or a medium; `file` is a saved folder (`file://folder/sub/page.html`)."""

HTML_SPACE = " \t\n\f\r"
"""The white space of the HTML standard; other white space is part of a URL."""


def clean_url(url: str) -> str | None:
    """Normalise an absolute URL and cut its fragment, user name and password.

    None where it cannot be parsed, is longer than `MAX_URL_CHARS` or has a scheme not in `FETCHABLE`.
    """
    text = url.strip(HTML_SPACE)
    if len(text) > MAX_URL_CHARS:
        return None
    try:
        return strip_private(ada_url.normalize_url(text))
    except ValueError:
        return None


def join_url(base: str, reference: str) -> str | None:
    """Resolve what a page refers to against the page's URL, in the form of `clean_url`.

    None also where the reference is empty (it names no medium, only the page itself), and where a page of the web
    points at a file: only a saved page may refer to files.
    """
    text = reference.strip(HTML_SPACE)
    if not text or len(text) > MAX_URL_CHARS or len(base) > MAX_URL_CHARS:
        return None
    try:
        joined = strip_private(ada_url.join_url(base, text))
    except ValueError:
        return None
    if joined is not None and joined.startswith("file:") and base.lstrip(HTML_SPACE)[:5].lower() != "file:":
        return None
    return joined


def strip_private(href: str) -> str | None:
    """Cut the fragment and the credentials of a URL that is already normalised; None if it cannot be fetched.

    A normalised URL of these schemes holds its first `#` before the fragment and a `/` after the host.
    """
    scheme, _, rest = href.partition("://")
    if scheme not in FETCHABLE:
        return None
    rest = rest.partition("#")[0]
    host, slash, path = rest.partition("/")
    cleaned = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return cleaned if len(cleaned) <= MAX_URL_CHARS else None


def host_of(url: str) -> str:
    """Give the host, and the port where it is not the scheme's own, of a URL that is already normalised."""
    return url.partition("://")[2].partition("/")[0]
