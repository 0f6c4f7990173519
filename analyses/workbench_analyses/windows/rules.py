"""What is checked: fitted windows, the list's cut into full and streaming heads at as many entries, windows dealt anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from workbench.policies import named
from workbench.policies.head_windows import entries, head_windows
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting, TooTight
from workbench.policies.streaming import streaming

FITTED, HALVED, WIDEST = "fitted windows", "list, half of the budget full", "list, as many full as fit"


@dataclass(frozen=True, eq=False)
class Rule:
    """A way to keep part of the cache at one tolerance. found: the windows, of which it holds as many entries.

    dealt: the same windows at other heads of their layers.
    """

    name: str
    tolerance: float
    found: Int[np.ndarray, "layers kv"]
    make: Callable[[Setting], Scheme]
    dealt: tuple[Callable[[Setting], Scheme], ...] = ()

    @property
    def unit(self) -> str:
        """A name for the run folder."""
        return f"{self.name.replace(' ', '-').replace(',', '')}-{self.tolerance:g}"

    def looks_at(self, setting: Setting) -> Any:
        """What of the fit and of the heads under test decides what it gives."""
        return [self.found, None if self.name == FITTED else setting.ranked]


def share(found: Int[np.ndarray, "layers kv"], sink: int, context: int, tokens: int) -> float:
    """Of all key-value entries of a prompt of so many tokens, those that windows hold."""
    return entries(list(found), sink, context, tokens) / (found.size * tokens)


def rules(
    assigned: Mapping[float, Int[np.ndarray, "layers kv"]], sink: int, least: int, context: int, draws: int, seed: int,
    settings: Mapping[str, Setting],
) -> tuple[list[Rule], list[str]]:  # fmt: skip
    """All rules of all tolerances, and a line for each that its share of entries is too small for.

    settings: of every kind of prompts; the share is counted for each, so that rules hold as many entries everywhere.
    """
    out, refused = [], []
    for tolerance, found in assigned.items():
        dealt = tuple(_windows(other, sink, context) for other in deals(found, draws, seed))
        out.append(Rule(FITTED, tolerance, found, _windows(found, sink, context), dealt))
        if share(found, sink, context, settings["needle"].tokens) >= 1:
            refused.append(f"tolerance {tolerance:g}: every head keeps everything, so there is nothing to compare")
            continue
        for name, make in ((HALVED, _halved(found, sink, context)), (WIDEST, _widest(found, sink, context, least))):
            try:
                for setting in settings.values():
                    make(setting)
            except TooTight as error:
                refused.append(f"{name} at tolerance {tolerance:g}: {error}")
            else:
                out.append(Rule(name, tolerance, found, make))
    return out, refused


def deals(found: Int[np.ndarray, "layers kv"], draws: int, seed: int) -> list[Int[np.ndarray, "layers kv"]]:
    """The same windows dealt anew within every layer: all different from these and from each other.

    All that there are where no more exist than were asked for; none where every layer has one window.
    """
    most = min(draws, _arrangements(found) - 1)
    rng, out = np.random.default_rng(seed), {found.tobytes(): found}
    while len(out) <= most:
        other = rng.permuted(found, axis=1)
        out.setdefault(other.tobytes(), other)
    return list(out.values())[1:]


def _arrangements(found: Int[np.ndarray, "layers kv"]) -> int:
    """In how many ways the windows of every layer can be dealt to its heads."""
    alike = math.prod(math.factorial(n) for row in found.tolist() for n in Counter(row).values())
    return math.factorial(found.shape[1]) ** len(found) // alike


def _windows(found: Int[np.ndarray, "layers kv"], sink: int, context: int) -> Callable[[Setting], Scheme]:
    return lambda setting: head_windows(dict(zip(setting.layers, found, strict=True)), sink, context)


def _halved(found: Int[np.ndarray, "layers kv"], sink: int, context: int) -> Callable[[Setting], Scheme]:
    """DuoAttention's rule of the simulator: full heads get up to half of the budget."""
    duo = named("duo")[0]
    return lambda setting: duo.make(replace(setting, budget=share(found, sink, context, setting.tokens)))


def _widest(found: Int[np.ndarray, "layers kv"], sink: int, context: int, least: int) -> Callable[[Setting], Scheme]:
    """As many full heads as fit beside windows of the least size; what is left widens the windows."""

    def make(setting: Setting) -> Scheme:
        budget = share(found, sink, context, setting.tokens)
        near = min(1.0, (sink + least) / setting.tokens)
        if near >= 1 or budget < near:
            raise TooTight(f"its share of {budget:.3g} is less than windows of {sink + least} tokens hold")
        k = min(int((budget - near) / (1 - near) * setting.size + 1e-9), setting.size - 1)
        window = int((budget * setting.size - k) / (setting.size - k) * setting.tokens + 1e-9)
        return streaming(setting, setting.full(k), sink, max(1, window - sink), full_heads=k)

    return make
