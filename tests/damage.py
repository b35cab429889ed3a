"""Broken archives and hostile files, made from a few bytes: WARC records, gzip members, pictures, damage to them."""

import gzip
import io
import struct
import zlib

from isal import isal_zlib
from PIL import Image

DATE = "2026-01-01T00:00:00Z"
HTTP = "application/http; msgtype=response"


def record(body, url="http://a/", kind="response", content_type=HTTP, length=None, date=DATE, fields=b""):
    """Write a WARC record; `length` is what its Content-Length claims, `fields` are more header lines."""
    header = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: {date}\r\n"
    claimed = str(len(body) if length is None else length).encode()
    rest = b"Content-Type: " + content_type.encode() + b"\r\n" + fields + b"Content-Length: " + claimed
    return header.encode() + rest + b"\r\n\r\n" + body + b"\r\n\r\n"


def http(body, content_type="text/html", status="200 OK", fields=b""):
    """Write an HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n".encode() + fields + b"\r\n" + body


def chunked(body, size=7):
    """Write a body in the chunked transfer coding."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def member(data, level=6):
    """Compress bytes into a gzip member; level 0 stores them as they are."""
    return gzip.compress(data, level, mtime=0)


def zeros_member(head, mebibytes):
    """Compress `head` and that many MiB of zero bytes into a gzip member, at the cost of one of them."""
    zeros = bytes(1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(zeros) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = isal_zlib.crc32(head)
    for _ in range(mebibytes):
        crc = isal_zlib.crc32(zeros, crc)
    size = (len(head) + (mebibytes << 20)) % (1 << 32)
    return (
        gzip.compress(b"", mtime=0)[:10] + begin + piece * mebibytes + deflate.flush() + struct.pack("<II", crc, size)
    )


def flip(data, at):
    """Turn over one bit of the byte at `at`."""
    changed = bytearray(data)
    changed[at] ^= 0x10
    return bytes(changed)


def page(title, body, head=""):
    """Write an HTML page."""
    return f"<!doctype html><html lang=en><head><title>{title}</title>{head}</head><body>{body}</body></html>".encode()


def picture(width_px, height_px, format="JPEG", seed=1):
    """Draw a picture of many colours."""
    image = Image.effect_mandelbrot((width_px, height_px), (-2.0 + seed / 50, -1.5, 1.0, 1.5), 40)
    other = Image.linear_gradient("L").resize((width_px, height_px))
    buffer = io.BytesIO()
    Image.merge("RGB", (image, other, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).save(buffer, format)
    return buffer.getvalue()


def png_chunk(name, body):
    """Write a chunk of a PNG with its true checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(side_px, rows):
    """Write a PNG that claims a square of RGB pixels and holds that many rows of black ones."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    deflate = zlib.compressobj(1)
    row = bytes(1 + 3 * side_px)
    data = b"".join([*(deflate.compress(row) for _ in range(rows)), deflate.flush()])
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)
