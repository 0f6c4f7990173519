"""Where do heads park their attention, and do they need to? `workbench scan-sinks`.

Received attention finds sinks at any position (Yu et al. 2024, arXiv 2406.15765, with a corrected rule), blocking them
tells whether the model needs them, the run folder keeps both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL
from workbench.option_values import at_least, one_of
from workbench.spread_options import SpreadOptions

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.sinks.result import SinkScan

PROOFS = ("default", "none")
LEAST_LENGTH = 64


@chz.chz
class ScanSinks(SpreadOptions):
    """Options of the scan."""

    model: str = chz.field(default="llama", doc=MODEL)
    texts: str | None = chz.field(default=None, doc="your texts: a text file or a folder of .txt files")
    tokens: int = chz.field(default=512, doc="T: tokens of each probe text, BOS included where there is one")
    samples: int = chz.field(default=8, doc="natural texts, and as many of random tokens")
    bos: bool | None = chz.field(default=None, doc="begin every text with BOS; default: as the tokenizer does")
    a: float = chz.field(default=5.0, doc="a sink receives more than a times its share")
    absolute: float = chz.field(default=0.1, doc="threshold of the rule in the authors' code, shown beside")
    epsilon: float = chz.field(default=0.3, doc="a head parks where its sink receives more than this")
    epsilon_tokens: int = chz.field(default=64, doc="T of the first-token rate Sink^eps")
    massive_least: float = chz.field(default=100.0, doc="massive activations exceed this, …")
    massive_ratio: float = chz.field(default=1000.0, doc="… and are so many times the median")
    tau: float | None = chz.field(default=None, doc="phi of a sink token; default: 20·√(width / 4096)")
    proof: str = chz.field(default="default", doc="causal check of the sink heads: default or none")
    check_tokens: int = chz.field(default=256, doc="tokens of each text that the causal check runs on")
    checked: int = chz.field(default=12, doc="heads that the causal check looks at, at most")
    controls: int = chz.field(default=2, doc="heads of the same layer that each of them is compared with, at most")
    recent: int = chz.field(default=64, doc="keys that a window keeps beside the sinks")
    seed: int = chz.field(default=0, doc="draws texts and controls")
    batch: int = chz.field(default=32, doc="texts or edited variants in one forward")

    @chz.validate
    def _sane(self) -> None:
        if self.tokens < LEAST_LENGTH:
            raise BadInput(f"tokens={self.tokens}: give at least {LEAST_LENGTH}")
        if not 2 <= self.epsilon_tokens <= self.tokens:
            raise BadInput(f"epsilon_tokens={self.epsilon_tokens}: give 2 to tokens={self.tokens}")
        at_least(self, samples=2, checked=1, controls=1)
        if self.a < 1:
            raise BadInput(f"a={self.a:g}: a sink receives more than its share, give at least 1")
        if not (0 < self.epsilon < 1 and 0 < self.absolute < 1):
            raise BadInput(f"epsilon={self.epsilon:g}, absolute={self.absolute:g}: attention lies between 0 and 1")
        if not 1 <= self.recent < (room := min(self.tokens, self.check_tokens) - 4):
            raise BadInput(
                f"recent={self.recent}: a window must leave something out of tokens={self.tokens} and "
                f"check_tokens={self.check_tokens}: give 1 to {room - 1}"
            )
        at_least(self, massive_least=0, massive_ratio=1)
        one_of("proof", self.proof, PROOFS)


def scan(model: Model | str | ScanSinks = "llama", **options: Any) -> SinkScan:
    """Find attention sinks, massive activations and the heads that park; check what happens without the sinks.

    Writes nothing unless `out=` is given. model: a loaded Model, a live TransformerBridge, a name, or a whole ScanSinks
    config. options: the fields of ScanSinks. Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(ScanSinks, model, options)
    _check(config)
    check_cheaply(config, loaded)
    from workbench_analyses.sinks.scan import run_scan

    return run_scan(config, loaded)


def _check(config: ScanSinks) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench_analyses.sinks.reading import read_texts

    if config.texts:
        read_texts(config.texts)


COMMAND = Command(
    "scan-sinks", "find attention sinks and the heads that park there, check them, report", ScanSinks, scan
)
