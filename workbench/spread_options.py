"""Options of commands whose units of work can be done elsewhere: on another machine (`shard=`), on a cluster (`engine=`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import chz

from workbench.errors import BadInput
from workbench.model_options import BudgetedOptions
from workbench.parts import part_of

_ENGINE = re.compile(r"local|ray(?::([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class Engine:
    """Who does the units: this process, or `workers` of a Ray cluster (None: as many as it has room for)."""

    ray: bool = False
    workers: int | None = None


def engine_of(text: str) -> Engine:
    """What `local`, `ray` or `ray:8` names. Raises BadInput."""
    named = _ENGINE.fullmatch(text)
    if not named:
        raise BadInput(f"engine={text}: use local, ray, or ray:8 for eight workers")
    return Engine(text != "local", int(named[1]) if named[1] else None)


@chz.chz
class SpreadOptions(BudgetedOptions):
    """Those of commands whose first stage is many independent units."""

    LAST = (*BudgetedOptions.LAST, "shard", "engine")

    shard: str | None = chz.field(
        default=None, doc="i/n, from 0: do this part of the units only; workbench merge ends it"
    )
    engine: str = chz.field(
        default="local", doc="who does the units: local, or ray (a running cluster; ray:8: workers)"
    )

    @chz.validate
    def _spread_sane(self) -> None:
        engine = engine_of(self.engine)
        if self.shard is None:
            return
        part_of(self.shard)
        if engine.ray:
            raise BadInput("shard= and engine=ray are two ways to spread the same units: give one of them")
        if not self.out:
            raise BadInput("shard= writes a folder for workbench merge: give out=")
