"""Building blocks of one self-contained offline HTML page; they know nothing of any analysis."""

from __future__ import annotations

from workbench.views.attention_patterns import AttentionPatterns
from workbench.views.block import Block
from workbench.views.circuit_graph import CircuitGraph
from workbench.views.command import Command
from workbench.views.curves import Curves, Series
from workbench.views.downloads import Download, Downloads
from workbench.views.head_map import HeadMap
from workbench.views.heatmap import Heatmap
from workbench.views.image_overlay import ImageOverlay
from workbench.views.observed_patterns import long_patterns, pattern_probes
from workbench.views.page import Page, Section
from workbench.views.pattern_tiles import Tile
from workbench.views.pattern_view import ExactRows, PatternView
from workbench.views.prose import Prose
from workbench.views.scatter import Points, Scatter
from workbench.views.table import Table
from workbench.views.token_view import TokenView

__all__ = [
    "AttentionPatterns",
    "Block",
    "CircuitGraph",
    "Command",
    "Curves",
    "Download",
    "Downloads",
    "ExactRows",
    "HeadMap",
    "Heatmap",
    "ImageOverlay",
    "Page",
    "PatternView",
    "Points",
    "Prose",
    "Scatter",
    "Section",
    "Series",
    "Table",
    "Tile",
    "TokenView",
    "long_patterns",
    "pattern_probes",
]
