"""A photograph or a small picture as an address that a page can hold."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import UInt8

from workbench.errors import BadInput
from workbench.views.png import png_uri

SMALL = 128 * 128
"""Up to this many pixels a picture is kept exactly, as PNG."""
LONGEST = 512
"""Longer side of the JPEG of a larger one."""


def picture_uri(pixels: UInt8[np.ndarray, "y x 3"]) -> str:
    """A small picture as PNG, a larger one as JPEG of at most 512 pixels a side. Raises BadInput without pillow for it."""
    if pixels.shape[0] * pixels.shape[1] <= SMALL:
        return png_uri(pixels)
    try:
        from PIL import Image
    except ImportError:
        raise BadInput(f"a picture of {pixels.shape[1]} × {pixels.shape[0]} in a page: pip install pillow") from None
    picture, held = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((LONGEST, LONGEST))
    picture.save(held, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode("ascii")
