"""Colours: cividis for amounts, Okabe and Ito for categories, blue to orange for differences.

Sources: cividis, Nuñez, Anderton and Renslow 2018 (ten stops of the published table, joined linearly);
categories, Okabe and Ito 2008. Both read the same with the common colour-vision deficiencies.
"""

from __future__ import annotations

import math

CIVIDIS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
NO_SCORE = "#b9b9b9"


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green, blue of `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def cividis(fraction: float) -> tuple[int, int, int]:
    """Red, green, blue (0 to 255) of the map at `fraction`, cut to [0, 1]; NaN gives the grey of unscored cells."""
    if math.isnan(fraction):
        return rgb(NO_SCORE)
    place = min(max(fraction, 0.0), 1.0) * (len(CIVIDIS) - 1)
    left = min(int(place), len(CIVIDIS) - 2)
    a, b, share = rgb(CIVIDIS[left]), rgb(CIVIDIS[left + 1]), place - left
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def hexed(colour: tuple[int, int, int]) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def ink_on(colour: tuple[int, int, int]) -> str:
    """Black or white, whichever has the higher WCAG contrast on `colour`."""

    def linear(channel: int) -> float:
        c = channel / 255
        return c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4

    light = 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"
