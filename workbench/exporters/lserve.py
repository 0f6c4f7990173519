"""DuoAttention's pair as OmniServe (LServe) reads it: its config.json is ignored there, sizes are flags of the server.

Window sizes of decoding must be multiples of the page size (64 tokens by default). github mit-han-lab/omniserve.
"""

from __future__ import annotations

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.duo_attention import GATES, read
from workbench.exporters.duo_attention import write as write_pair
from workbench.exporters.split import Split

PAGE = 64


def write(split: Split, *, page: int = PAGE) -> Written:
    """The pair. Raises BadInput for windows that are no multiple of the page size."""
    for name in ("sink_size", "recent_size"):
        if (size := getattr(split.how, name)) % page:
            raise BadInput(f"{name}={size}: OmniServe wants multiples of its page size, {page}: set {name} or page")
    return write_pair(split)


EXPORTER = Exporter(
    name="lserve",
    help="the same pair, windows checked against the page size: OmniServe/LServe",
    marker=GATES,
    write=write,
    read=read,
    level="kv",
    gates=True,
    use="run OmniServe with --static-sparse-attn-load-dir FOLDER --static-sparsity {sparsity} --sparse-context-mode "
    "--ctx-sink-token {sink_size} --ctx-local-token {recent_size} --dec-sink-token {sink_size} "
    "--dec-local-token {recent_size}",
)
