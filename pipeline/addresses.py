"""What may be asked of the net: an IP address or a URL in, "" or the reason for refusing it out.

    refuse_url       before anything is asked: the scheme, credentials, the host, the port, the length
    refuse_address   just before a connection: the address that it would really be made to

A name says nothing about where it leads, and may lead elsewhere a second later, so that only the address of the
connection itself counts. What is refused follows the special-purpose registries of IANA (RFC 6890 and later).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import ada_url

from pipeline.urls import MAX_URL_CHARS

URL_TOO_LONG = "url_too_long"
BAD_URL = "bad_url"
BAD_SCHEME = "bad_scheme"
CREDENTIALS_IN_URL = "credentials_in_url"
NO_HOST = "no_host"
PORT_NOT_ALLOWED = "port_not_allowed"

NOT_AN_ADDRESS = "not_an_address"
ZONE = "zone"
UNSPECIFIED = "unspecified"
LOOPBACK = "loopback"
PRIVATE = "private"
CARRIER = "carrier"
LINK_LOCAL = "link_local"
SITE_LOCAL = "site_local"
METADATA = "metadata"
MULTICAST = "multicast"
BROADCAST = "broadcast"
DOCUMENTATION = "documentation"
BENCHMARK = "benchmark"
TUNNEL = "tunnel"
RESERVED = "reserved"

METADATA_ADDRESSES = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # most clouds
            "169.254.170.2",  # tasks of AWS
            "169.254.170.23",  # pods of AWS
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's host, though it lies in public space
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
        ),
    )
)
"""Where clouds answer their own machines, with credentials among the answers."""

REFUSED_4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", UNSPECIFIED),  # 0.0.0.0 reaches this machine on Linux
        ("10.0.0.0/8", PRIVATE),
        ("100.64.0.0/10", CARRIER),
        ("127.0.0.0/8", LOOPBACK),
        ("169.254.0.0/16", LINK_LOCAL),
        ("172.16.0.0/12", PRIVATE),
        ("192.0.0.0/24", RESERVED),
        ("192.0.2.0/24", DOCUMENTATION),
        ("192.88.99.0/24", TUNNEL),
        ("192.168.0.0/16", PRIVATE),
        ("198.18.0.0/15", BENCHMARK),
        ("198.51.100.0/24", DOCUMENTATION),
        ("203.0.113.0/24", DOCUMENTATION),
        ("224.0.0.0/4", MULTICAST),
        ("255.255.255.255/32", BROADCAST),
        ("240.0.0.0/4", RESERVED),
    )
)
"""IPv4 networks that are no part of the public net; the first that holds an address names its reason."""

REFUSED_6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", UNSPECIFIED),
        ("::1/128", LOOPBACK),
        ("fc00::/7", PRIVATE),
        ("fe80::/10", LINK_LOCAL),
        ("fec0::/10", SITE_LOCAL),
        ("ff00::/8", MULTICAST),
        ("2001::/32", TUNNEL),  # Teredo: leads to an IPv4 address that it hides
        ("2001:2::/48", BENCHMARK),
        ("2001::/23", RESERVED),
        ("2001:db8::/32", DOCUMENTATION),
        ("2002::/16", TUNNEL),  # 6to4: leads to the IPv4 address in it
        ("3fff::/20", DOCUMENTATION),
    )
)
"""IPv6 networks that are no part of the public net; beyond them only `GLOBAL_6` is."""

GLOBAL_6 = IPv6Network("2000::/3")

EMBEDDED_4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4 in the last 32 bits: mapped addresses, and NAT64, which a machine with IPv6 alone needs for most of the web."""

LOWEST_FREE_PORT = 1024
WEB_PORTS = frozenset({80, 443})
SERVICE_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
    | {1433, 1521, 2375, 2376, 2379, 3306, 3389, 5432, 5900, 6379, 6443, 9200, 9300, 10250, 11211, 27017}
)
"""Ports that speak no HTTP, as browsers keep them (the Fetch standard), and those of databases and control planes."""


def refuse_address(ip: str) -> str:
    """Say why no connection may be made to an address, or "" where it is one of the public net."""
    try:
        address = ip_address(ip)
    except ValueError:
        return NOT_AN_ADDRESS
    if isinstance(address, IPv4Address):
        return refuse_4(address)
    if address.scope_id is not None:  # a link of this machine, whatever the address says
        return ZONE
    if any(address in network for network in EMBEDDED_4):
        return refuse_4(IPv4Address(int(address) & 0xFFFF_FFFF))
    return refuse_6(address)


def refuse_4(address: IPv4Address) -> str:
    """Say why an IPv4 address is refused."""
    if address in METADATA_ADDRESSES:
        return METADATA
    return next((reason for network, reason in REFUSED_4 if address in network), "")


def refuse_6(address: IPv6Address) -> str:
    """Say why an IPv6 address that holds no IPv4 address is refused."""
    if address in METADATA_ADDRESSES:
        return METADATA
    named = next((reason for network, reason in REFUSED_6 if address in network), "")
    return named or ("" if address in GLOBAL_6 else RESERVED)


def refuse_url(url: str) -> str:
    """Say why a URL is not asked, or ""; where its host leads is for `refuse_address`.

    Ports below 1024 other than 80 and 443 belong to other services and are hardly ever the web: asking them would
    be a scan. Above them only known services are left out, for sites do use 8080, 8443 and the like.
    """
    if len(url) > MAX_URL_CHARS:
        return URL_TOO_LONG
    try:
        parts = ada_url.URL(url)
    except ValueError:
        return BAD_URL
    if parts.protocol not in ("http:", "https:"):
        return BAD_SCHEME
    if parts.username or parts.password:
        return CREDENTIALS_IN_URL
    if not parts.hostname.strip("."):
        return NO_HOST
    return "" if allow_port(parts.port) else PORT_NOT_ALLOWED


def allow_port(port: str) -> bool:
    """Tell whether a port of a URL may be asked; empty is the scheme's own."""
    if not port:
        return True
    number = int(port)
    return number in WEB_PORTS or (number >= LOWEST_FREE_PORT and number not in SERVICE_PORTS)
