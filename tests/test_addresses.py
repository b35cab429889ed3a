"""Addresses and URLs that are asked, and those that are not, each with its reason."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.addresses import refuse_address, refuse_url
from pipeline.urls import MAX_URL_CHARS, clean_url

ADDRESSES = {
    "8.8.8.8": "",
    "1.1.1.1": "",
    "100.63.255.255": "",
    "100.128.0.0": "",
    "172.15.255.255": "",
    "172.32.0.0": "",
    "192.0.1.0": "",
    "223.255.255.255": "",
    "2606:4700:4700::1111": "",
    "2a00:1450:4001::200e": "",
    "::ffff:8.8.8.8": "",
    "64:ff9b::808:808": "",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "::ffff:10.0.0.1": "private",
    "64:ff9b::10.0.0.1": "private",
    "fc00::1": "private",
    "fd12:3456:789a::1": "private",
    "100.64.0.1": "carrier",
    "100.127.255.255": "carrier",
    "169.254.1.1": "link_local",
    "fe80::1": "link_local",
    "febf::1": "link_local",
    "fec0::1": "site_local",
    "169.254.169.254": "metadata",
    "::ffff:169.254.169.254": "metadata",
    "64:ff9b::a9fe:a9fe": "metadata",
    "169.254.170.2": "metadata",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "255.255.255.255": "broadcast",
    "192.0.2.1": "documentation",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "198.18.0.1": "benchmark",
    "198.19.255.255": "benchmark",
    "2001:2::1": "benchmark",
    "192.88.99.1": "tunnel",
    "2002:7f00:1::": "tunnel",
    "2002:a9fe:a9fe::": "tunnel",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "tunnel",
    "192.0.0.8": "reserved",
    "240.0.0.1": "reserved",
    "2001:20::1": "reserved",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "::127.0.0.1": "reserved",
    "64:ff9b:1::7f00:1": "reserved",
    "4000::1": "reserved",
    "fe80::1%eth0": "zone",
    "fe80::1%1": "zone",
    "2606:4700::1%lo": "zone",
    "": "not_an_address",
    "localhost": "not_an_address",
    "127.1": "not_an_address",
    "0x7f000001": "not_an_address",
    "0177.0.0.1": "not_an_address",
    "[::1]": "not_an_address",
    "8.8.8.8 ": "not_an_address",
}


@pytest.mark.parametrize(("ip", "reason"), ADDRESSES.items())
def test_addresses(ip, reason):
    assert refuse_address(ip) == reason


@given(st.ip_addresses())
def test_nothing_is_allowed_that_the_standard_library_calls_special(address):
    """Two tables of the same registries: what `ipaddress` holds for not global is refused here too."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    inner = mapped or address
    if not inner.is_global or inner.is_multicast:
        assert refuse_address(str(address))


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_judged_as_the_address_itself(address):
    reason = refuse_address(str(address))
    assert refuse_address(f"::ffff:{address}") == reason
    assert refuse_address(f"64:ff9b::{address}") == reason
    number = int(address)
    assert refuse_address(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1") == "tunnel"


URLS = {
    "https://example.org/a.jpg": "",
    "http://example.org:80/": "",
    "http://example.org:443/": "",
    "http://example.org:8080/": "",
    "https://example.org:8443/": "",
    "http://example.org:65535/": "",
    "http://bücher.example/": "",
    "http://127.0.0.1/": "",
    "http://[::1]:8080/": "",
    "ftp://example.org/": "bad_scheme",
    "file:///etc/passwd": "bad_scheme",
    "gopher://example.org/": "bad_scheme",
    "data:image/png;base64,AAAA": "bad_scheme",
    "javascript:alert(1)": "bad_scheme",
    "ws://example.org/": "bad_scheme",
    "http://user@example.org/": "credentials_in_url",
    "http://user:word@example.org/": "credentials_in_url",
    "http://:word@example.org/": "credentials_in_url",
    "http://good.example\\@evil.example/": "",
    "http://example.org:22/": "port_not_allowed",
    "http://example.org:25/": "port_not_allowed",
    "http://example.org:0/": "port_not_allowed",
    "http://example.org:81/": "port_not_allowed",
    "http://example.org:3306/": "port_not_allowed",
    "http://example.org:6379/": "port_not_allowed",
    "http://example.org:6667/": "port_not_allowed",
    "http://example.org:11211/": "port_not_allowed",
    "http://./": "no_host",
    "http://": "bad_url",
    "http://:80/": "bad_url",
    "": "bad_url",
    "example.org/a.jpg": "bad_url",
    "http://a b/": "bad_url",
    "http://[fe80::1%25eth0]/": "bad_url",
    "http://example.org:99999/": "bad_url",
    "http://1.2.3.256/": "bad_url",
    "http://example.org/" + "a" * MAX_URL_CHARS: "url_too_long",
}


@pytest.mark.parametrize(("url", "reason"), URLS.items(), ids=lambda value: value[:40])
def test_urls(url, reason):
    assert refuse_url(url) == reason


@pytest.mark.parametrize(
    "spelling",
    [
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1.",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "%31%32%37.1",
    ],
)
def test_spellings_of_an_address_are_one_address_after_normalising(spelling):
    """What the guard sees is what the system connects to; the normal form leaves no second reading of a host."""
    assert clean_url(f"http://{spelling}/a") == "http://127.0.0.1/a"


@given(st.text(max_size=60))
def test_any_text_is_answered(text):
    assert isinstance(refuse_address(text), str)
    assert refuse_url(text) != "" or clean_url(text) is not None
    assert refuse_url("http://" + text) != "" or clean_url("http://" + text) is not None
