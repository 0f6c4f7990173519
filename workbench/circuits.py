"""A circuit: the heads that a task runs through, stage by stage from the logits down, and how they are joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench import atomic
from workbench.circuit_parts import Edge, Place
from workbench.errors import BadInput
from workbench.heads import ModelIdentity
from workbench.jsonable import dumps
from workbench.run_record import check_folder
from workbench.schema import STAMP, schema_of, stamp
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of

__all__ = ["Circuit", "CircuitEdge", "CircuitHead", "Edge", "Place", "Stage", "read_circuit"]

FORMAT = "workbench-circuit"
FIRST = "workbench-circuit-1"
"""What the first layout called itself, with its number."""
NO_ROLE = "effect without role"


@dataclass(frozen=True)
class Stage:
    """Heads that reach some receivers by one channel at one label.

    depth: 1 for the logits, then one more for each step down. share of an effect: its part of the gap, negative where it
    works against it. gap: change of the logit difference when these receivers get all of the corrupted run, as a share
    of the whole gap.
    """

    depth: int
    channel: str
    label: str
    receivers: tuple[Place, ...]
    gap: float

    @property
    def name(self) -> str:
        """Such as `2 q@END`."""
        return f"{self.depth} {'logits' if self.channel == 'resid' else self.channel}@{self.label}"


@dataclass(frozen=True)
class CircuitHead:
    """A head in a stage. share: mean effect over gap, with its 95 % bootstrap interval over prompts.

    evidence: attention to labels from the stage's label (`attends LABEL`), `copies`, `induction`, `echo`, `previous`.
    """

    head: Place
    stage: str
    share: float
    low: float
    high: float
    role: str = NO_ROLE
    evidence: Mapping[str, float] = field(default_factory=dict)

    def words(self, least: float = 0.0) -> str:
        """The evidence in a line, as far as it is at least so strong."""
        return ", ".join(f"{name} {value:.2f}" for name, value in self.evidence.items() if value >= least)


@dataclass(frozen=True)
class CircuitEdge:
    """An edge with the share of the gap that it carries, and its 95 % interval."""

    edge: Edge
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Circuit:
    """The circuit of one task in one model.

    clean, corrupted: mean logit differences; the gap is corrupted − clean. needed: heads whose output from other prompts
    changes the difference (ablation column). ranking: every head, the largest first. settings: options that
    found it.
    """

    model: ModelIdentity
    n_layers: int
    n_heads: int
    task: str
    corruption: str
    n: int
    clean: float
    corrupted: float
    accuracy: float
    stages: tuple[Stage, ...]
    heads: tuple[CircuitHead, ...]
    edges: tuple[CircuitEdge, ...]
    needed: tuple[Place, ...]
    ranking: tuple[tuple[Place, float], ...]
    settings: Mapping[str, Any]

    @property
    def gap(self) -> float:
        """Change of the logit difference that a whole corrupted prompt makes."""
        return self.corrupted - self.clean

    @property
    def carrying(self) -> tuple[Place, ...]:
        """Heads of any stage (patching column), in order of layers."""
        return tuple(sorted({h.head for h in self.heads}))

    @property
    def nodes(self) -> tuple[Place, ...]:
        """Heads that patching or ablation shows, in order of layers."""
        return tuple(sorted({*self.carrying, *self.needed}))

    def in_stage(self, name: str) -> list[CircuitHead]:
        """Heads of a stage, the largest share first."""
        return sorted((h for h in self.heads if h.stage == name), key=lambda h: (-abs(h.share), h.head))

    def roles(self) -> dict[Place, tuple[str, ...]]:
        """Roles of each head, in order of depth; a head without its evidence has NO_ROLE."""
        out: dict[Place, tuple[str, ...]] = {}
        for one in self.heads:
            out[one.head] = tuple(dict.fromkeys((*out.get(one.head, ()), one.role)))
        return out

    def ranks(self) -> Float[np.ndarray, "layers heads"]:
        """The ranking as a map; 0 for heads that no stage shows."""
        out = np.zeros((self.n_layers, self.n_heads))
        for head, score in self.ranking:
            out[head] = score
        return out

    def json(self) -> str:
        """As text; `read_circuit` reads it."""
        return dumps({"format": FORMAT, **stamp(), **asdict(self)}, indent=1)

    def csv(self) -> str:
        """One line a head and stage, for tables and serving."""
        lines = ["layer,head,stage,role,share,low,high"]
        lines += [
            f"{h.head[0]},{h.head[1]},{h.stage},{h.role},{h.share:.6g},{h.low:.6g},{h.high:.6g}" for h in self.heads
        ]
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        atomic.write_bytes(Path(path), self.json().encode())


def read_circuit(path: str | Path) -> Circuit:
    """From circuit.json or the run folder that holds it. Raises BadInput, with the file, for what is none."""
    from workbench.circuit_record import circuit_from

    file = Path(path) / "circuit.json" if Path(path).is_dir() else Path(path)
    check_folder(path)
    try:
        held = parsed(text_of(file, LARGEST_CONFIG))
        form = held.pop("format")
        if form not in (FORMAT, FIRST):
            raise ValueError(f"its form is {form}, not {FORMAT}: trace it anew")
        schema_of(held, file, unsaid=1)
        held = {name: value for name, value in held.items() if name not in STAMP}
        return circuit_from(held, file)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}); give a run of trace-circuit") from None
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file}: not a circuit ({' '.join(str(error).split())})") from None
