"""How the web is asked: the settings of everything between a request and what it comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline import __version__
from pipeline.rights import PRODUCT

CONTACT = re.compile(r"[!-'*-~]{1,200}")  # printable ASCII without spaces and round brackets
KEEPS = ("normalised", "original")


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """How the web is asked; a `ValueError` says what cannot be."""

    contact: str = ""
    """Mail address or URL of whoever runs this, sent in the User-Agent; while it is empty the web is not asked."""
    keep: str = "normalised"
    """What is stored of an image: `normalised` or `original`."""
    allow_private: bool = False
    """Whether addresses outside the public net may be asked; for a mirror or a test of one's own."""
    in_flight: int = 128
    """Requests in flight, a worker."""
    held_bytes: int = 512_000_000
    """Bytes of bodies that a worker holds; beyond them answers are given up and asked for again."""
    host_connections: int = 4
    """Requests in flight to one host; browsers hold 6 connections."""
    delay_s: float = 0.1
    """Seconds between the starts of two requests to a host; its Crawl-delay counts where it is larger."""
    max_crawl_delay_s: float = 60.0
    """Seconds; a host with a larger Crawl-delay is not asked."""
    host_budget_s: float = 3600.0
    """Seconds that one run gives a host; what is left then waits for a later run."""
    lane_urls: int = 2000
    """URLs of a host above which it is split into lanes that share its rate."""
    max_lanes: int = 4
    """Lanes of one host, at most `host_connections`."""
    connect_s: float = 10.0
    """Seconds for looking a name up, connecting and the TLS handshake."""
    read_s: int = 15
    """Seconds for which an answer may be silent or slower than `min_bytes_per_s`, whole ones."""
    min_bytes_per_s: int = 1000
    """Bytes a second, over some seconds; at this rate `total_s` ends at 60 KB, and only a trap is slower."""
    total_s: float = 60.0
    """Seconds for one request from beginning to end."""
    max_bytes: int = 30_000_000
    """Bytes of an image after undoing gzip and the like; `media.max_bytes` decodes no more (SPEC-corpus 6)."""
    max_page_bytes: int = 10_000_000
    """Bytes of a page after undoing gzip and the like."""
    max_video_bytes: int = 100_000_000
    """Bytes of a video."""
    max_redirects: int = 5
    """Redirects followed for one URL, each checked as if it were asked first (RFC 9309 asks for 5 at robots.txt)."""
    tries: int = 3
    """Times a URL is asked in one run where the failure may pass."""
    backoff_s: float = 1.0
    """Seconds before the second try; doubled before each further one."""
    max_retry_after_s: float = 120.0
    """Seconds; a server that asks for a longer pause by Retry-After is left for a later run."""
    host_failures: int = 8
    """Failures of a host one after the other, after which the rest of it is left for a later run."""
    tls_verify: bool = True
    """Whether certificates are checked, by the bundle of certifi or by what SSL_CERT_FILE names."""

    def __post_init__(self) -> None:
        if self.contact and not (CONTACT.fullmatch(self.contact) and re.search(r"[^@]@[^@]|^https?://.", self.contact)):
            raise ValueError(f"contact is a mail address or a http URL, not {self.contact[:80]!r}")
        if self.keep not in KEEPS:
            raise ValueError(f"keep is {' or '.join(KEEPS)}, not {self.keep!r}")
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is more than 0, not {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is 0 or more, not {getattr(self, name)}")

    def user_agent(self) -> str:
        """Write the User-Agent: the product token, the version and whom to write to."""
        return f"{PRODUCT}/{__version__}" + (f" (+{self.contact})" if self.contact else "")


POSITIVE = (
    *("in_flight", "host_connections", "host_budget_s", "lane_urls", "max_lanes", "connect_s", "read_s", "total_s"),
    *("held_bytes", "max_bytes", "max_page_bytes", "max_video_bytes", "tries", "host_failures"),
)
NOT_NEGATIVE = ("delay_s", "max_crawl_delay_s", "min_bytes_per_s", "max_redirects", "backoff_s", "max_retry_after_s")
