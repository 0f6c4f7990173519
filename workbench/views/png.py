"""A picture of a grid of colours, one pixel per cell, without an image library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from jaxtyping import UInt8


def png_uri(pixels: UInt8[np.ndarray, "rows columns 3"]) -> str:
    """The pixels as a `data:image/png` address (RGB, 8 bits, no filter, no colour profile)."""
    rows, columns, _ = pixels.shape
    flat = pixels.reshape(rows, columns * 3)
    lines = np.concatenate([np.zeros((rows, 1), dtype=np.uint8), flat], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines, 9)), _chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
