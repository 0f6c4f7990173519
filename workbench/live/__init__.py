"""Views that stay connected to Python in a notebook: a head map to select from, sliders, a pattern to zoom into.

They need anywidget, and `redescribe` ipywidgets (`pip install "workbench-interp[notebook]"`); nothing is asked of any
server or network. Each shows itself as plain HTML as well, so that a saved notebook keeps its pictures where no kernel runs.
"""

from __future__ import annotations

from workbench.live.choosing import choose_heads
from workbench.live.redescribing import redescribe
from workbench.live.steering import steer
from workbench.live.zooming import zoom_patterns

__all__ = ["choose_heads", "redescribe", "steer", "zoom_patterns"]
