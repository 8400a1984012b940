"""Bytes that nobody means well with."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from .conftest import a_cell, encoded

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says what it likes; ``data`` is its compressed image."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG + header + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_bomb() -> bytes:
    """50,000 × 50,000 pixels in a few kilobytes."""
    return png(50_000, 50_000, zlib.compress(bytes(4_000_000), 9))


def png_text_bomb() -> bytes:
    """A small picture with a compressed comment of 200 MB."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    good = zlib.compress(bytes(24 * 73))
    return png(24, 24, good, chunk(b"zTXt", b"Comment\0\0" + text))


def png_profile_bomb() -> bytes:
    packer = zlib.compressobj(9)
    profile = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    return png(24, 24, zlib.compress(bytes(24 * 73)), chunk(b"iCCP", b"icc\0\0" + profile))


def png_many_chunks() -> bytes:
    return png(24, 24, zlib.compress(bytes(24 * 73)), *(chunk(b"tEXt", b"k\0v") for _ in range(60_000)))


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + header + bytes(100)


def bmp_run_lengths() -> bytes:
    """Run-length coded, 30,000 × 30,000 said."""
    header = struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + header + bytes(1024) + b"\xff\x01" * 400


def tiff(*entries: tuple[int, int, int, int], data: bytes = b"", next_directory: int = 0) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value) each."""
    start = 8
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", start) + body + struct.pack("<I", next_directory) + data


def tiff_of(width: int, height: int, compression: int = 1, count: int = 100, offset: int = 200) -> bytes:
    entries = (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)),
        *((273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, count)),
    )
    return tiff(*entries, data=bytes(200))


def tiff_loop() -> bytes:
    """The next directory is this one again."""
    return tiff((256, 4, 1, 24), (257, 4, 1, 24), next_directory=8)


def tiff_bomb() -> bytes:
    """Deflate; the header says what the strip unpacks to: 40,000 × 40,000 pixels."""
    packed = zlib.compress(bytes(8 << 20), 9)
    return tiff_of(40_000, 40_000, 8, len(packed), 200) + packed


def webp(width: int, height: int) -> bytes:
    """The lossless header of a picture as large as WebP can say."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(20)
    return b"RIFF" + struct.pack("<I", 12 + len(data)) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def jpeg_said(width: int, height: int) -> bytes:
    """A JPEG whose frame says another size than it has."""
    whole = encoded(a_cell(), "JPEG")
    place = whole.index(b"\xff\xc0")
    return whole[: place + 5] + struct.pack(">HH", height, width) + whole[place + 9 :]


def jpeg_with_entities() -> bytes:
    """XMP that would read a file of this machine, were it parsed as XML."""
    xmp = (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd"><!ENTITY a "aaaaaaaaaa">'
        b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x:xmpmeta xmlns:x="adobe:ns:meta/"><t>&e;&b;</t></x:xmpmeta>'
    )
    body = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    whole = encoded(a_cell(), "JPEG")
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]


def animated(frames: int = 400) -> bytes:
    buffer = io.BytesIO()
    pictures = [Image.fromarray(np.full((24, 24, 3), n % 256, np.uint8)) for n in range(frames)]
    pictures[0].save(buffer, "WEBP", save_all=True, append_images=pictures[1:], lossless=True, method=0)
    return buffer.getvalue()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content, method)
    return buffer.getvalue()


def zip_bomb(ratio_of: int = 12 << 20) -> bytes:
    return zipped(("a.bmp", bytes(ratio_of)))


def zip_large() -> bytes:
    """Many members, each of which may be; all of them may not."""
    content = np.random.default_rng(0).integers(0, 256, 1 << 18, np.uint8).tobytes() * 8
    return zipped(*((f"{n}.bmp", content) for n in range(20)))


def zip_link() -> bytes:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((link, b"/etc/passwd"))


def zip_device() -> bytes:
    device = zipfile.ZipInfo("device.png")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    return zipped((device, b""))


def zip_encrypted() -> bytes:
    whole = bytearray(zipped(("a.png", encoded(a_cell()))))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(signature) + flags] |= 1
    return bytes(whole)


def zip_lying() -> bytes:
    """A member that says it is shorter than it is."""
    whole = bytearray(zipped(("a.bmp", encoded(a_cell(0, 200, 200), "BMP"))))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = whole.index(signature) + place
        whole[start : start + 4] = struct.pack("<I", 100)
    return bytes(whole)


def zip_overlapping() -> bytes:
    """Two names for the same bytes."""
    whole = zipped(("a.png", encoded(a_cell())), ("b.png", encoded(a_cell(1))))
    directory = whole.index(b"PK\x01\x02")
    second = whole.index(b"PK\x01\x02", directory + 1)
    return whole[: second + 42] + struct.pack("<I", 0) + whole[second + 46 :]


def zip_directory_said(count: int) -> bytes:
    """The end of the directory says that there are as many members."""
    whole = bytearray(zipped(("a.png", encoded(a_cell()))))
    end = whole.index(b"PK\x05\x06")
    whole[end + 8 : end + 12] = struct.pack("<HH", count, count)
    whole[end + 12 : end + 16] = struct.pack("<I", 0x7FFFFFFF)
    return bytes(whole)
