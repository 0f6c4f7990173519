"""The colour scale of a map, with numbers."""

from __future__ import annotations

from workbench.views.colours import CIVIDIS
from workbench.views.text import esc, number


def legend(unit: str, limits: tuple[float, float], missing: bool = False, extra: str = "", digits: int = 2) -> str:
    """A horizontal bar from `limits[0]` to `limits[1]`; `missing` adds the hatched swatch, `extra` is HTML."""
    low, high = limits
    digits = digits if high - low >= 0.1 else 4
    ticks = "".join(f"<span>{number(low + (high - low) * share, digits)}</span>" for share in (0.0, 0.5, 1.0))
    hatched = '<span class="key"><i class="swatch missing"></i>not scored</span>' if missing else ""
    return (
        f'<div class="legend"><span class="unit">{esc(unit)} (linear)</span>'
        f'<span class="scale"><i style="background:linear-gradient(90deg,{",".join(CIVIDIS)})"></i>'
        f'<span class="ticks">{ticks}</span></span>{hatched}{extra}</div>'
    )
