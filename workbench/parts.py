"""A part of a run: `shard=2/5` names it, `deal` says which units are its own, its folder lies beside the whole run's.

Shards count from 0, as the tasks of `sbatch --array=0-4`, ranks and the jobs of Kubernetes do, so that a script needs no
arithmetic. Every part writes a folder of its own: on a network file system neither appends of two machines to one log
nor locks between hosts can be relied on, while files that only one machine writes can. `workbench merge` puts the parts
together. Needs no torch.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import BadInput

PLAN = "part.json"
"""What a part says of itself: which units are its own, and how it was made."""
MOST = 100_000
"""Shards of one run."""
_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_FOLDER = re.compile(r"(.+)\.shard-([0-9]{1,9})-of-([0-9]{1,9})")


@dataclass(frozen=True)
class Part:
    """The shard `index` of `of`, counted from 0."""

    index: int
    of: int

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.index}/{self.of}"

    @property
    def suffix(self) -> str:
        """What its folder is called behind the name of the whole run's."""
        return f".shard-{self.index}-of-{self.of}"


def part_of(text: str) -> Part:
    """The part that `2/5` names. Raises BadInput."""
    written = _WRITTEN.fullmatch(text.strip())
    if not written:
        raise BadInput(f"shard={text}: write shard=i/n, as in shard=0/5 up to shard=4/5")
    index, of = int(written[1]), int(written[2])
    if not 1 <= of <= MOST:
        raise BadInput(f"shard={text}: a run has 1 to {MOST} shards")
    if index >= of:
        raise BadInput(
            f"shard={text}: shards count from 0, so the last one is {of - 1}/{of} (sbatch --array=0-{of - 1}; where only "
            "some tasks are submitted again, give the whole number of shards behind the stroke)"
        )
    return Part(index, of)


def whole_name(folder: str) -> str | None:
    """The name of the whole run's folder, of a part's; None for other names."""
    named = _FOLDER.fullmatch(folder)
    return named[1] if named else None


def deal(costs: Sequence[float], parts: int) -> list[int]:
    """Which part does each unit: the dearest first, each to the part that has least so far (ties: the first part).

    It depends on nothing but the costs, so every machine deals alike.
    """
    loads = [(0.0, part) for part in range(parts)]
    owners = [0] * len(costs)
    for unit in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, part = heapq.heappop(loads)
        owners[unit] = part
        heapq.heappush(loads, (load + costs[unit], part))
    return owners
