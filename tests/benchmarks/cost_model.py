"""What a scan costs on paper: FLOPs, bytes, seconds. Run: python tests/benchmarks/cost_model.py (the tables of docs/scale.md)

One multiplication and one addition are 2 FLOPs. Causal attention counts the pairs that a query sees, n(n + 1)/2, not n².
`scaling.py` checks the counts against measured seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

GIB = 2**30
BYTES = 2
"""Of a number in bfloat16."""


@dataclass(frozen=True)
class Geometry:
    """A decoder with grouped attention and a gated MLP. inner: its width. tied: one matrix of words for both ends."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool = False

    @property
    def matrices(self) -> int:
        """Weights of one layer that every token is multiplied with."""
        return 2 * self.width * self.head_dim * (self.heads + self.kv_heads) + 3 * self.width * self.inner

    @property
    def parameters(self) -> int:
        """All weights but the norms, which are a millionth."""
        return self.layers * self.matrices + (1 if self.tied else 2) * self.width * self.vocabulary

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token, all layers, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES


LARGE = Geometry(80, 8192, 64, 8, 128, 28672, 128256)
"""The shape of Llama 3 70B (arXiv 2407.21783, table 3)."""


@dataclass(frozen=True)
class Work:
    """Of some forwards.

    linear: FLOPs of the layers' matrices. attention: of scores and mixing. statistics: of scores that are computed once
    more for them. logits: of the rows that are kept. copied: numbers of keys and values that a branch of a cache copies.
    calls: layers run. forwards: forwards run.
    """

    linear: float = 0.0
    attention: float = 0.0
    statistics: float = 0.0
    logits: float = 0.0
    copied: float = 0.0
    calls: float = 0.0
    forwards: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def flops(self) -> float:
        """All of them."""
        return self.linear + self.attention + self.statistics + self.logits


def forward(g: Geometry, new: float, past: float = 0.0, rows: int = 0, kept: float = 1, whole: bool = False) -> Work:
    """One forward of `new` tokens behind `past` cached ones.

    rows: queries whose patterns are read. whole: a statistic of every row (received attention, entropy) is wanted: all
    scores are computed a second time. kept: rows of logits.
    """
    pairs, scores = new * past + new * (new + 1) / 2, 2 * g.heads * g.head_dim * g.layers
    return Work(
        linear=2 * g.matrices * g.layers * new,
        attention=2 * scores * pairs,
        statistics=scores * (pairs if whole else rows * (past + new)),
        logits=2 * g.width * g.vocabulary * kept,
        copied=2 * g.layers * g.kv_heads * g.head_dim * past,
        calls=g.layers,
        forwards=1,
    )


def needles(g: Geometry, length: int, depths: Sequence[float], behind: int = 40, rows: int = 24) -> Work:
    """A block of `scan-heads`: the haystack once, then behind each depth (percent) a needle and all that follows it.

    behind: tokens of needle, question and answer. rows: those of question and answer, whose patterns are read.
    """
    total = forward(g, length - behind)
    for depth in depths:
        past = (length - behind) * depth / 100
        total += forward(g, length - past, past, rows, kept=rows)
    return total


def sinks(g: Geometry, length: int) -> Work:
    """One text of `scan-sinks`: received attention of every key in every head."""
    return forward(g, length, whole=True, kept=length)


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind. Rates are reached ones, of all GPUs at once: FLOP/s each, bytes/s into each."""

    gpus: int
    linear: float
    attention: float
    network: float


H100 = Cluster(8, linear=0.6 * 989e12, attention=0.35 * 989e12, network=0.75 * 450e9)
"""Eight H100 SXM: 989 TFLOP/s in bfloat16 and NVLink's 450 GB/s a direction (NVIDIA's data sheet); 60 % in matrix products
and 75 % of the links are assumed, 35 % in attention is FlashAttention-2's (arXiv 2407.08608, abstract)."""
ETHERNET = Cluster(8, H100.linear, H100.attention, 0.75 * 50e9)
"""The same, one GPU a machine, behind 400 Gbit/s each."""


def seconds(work: Work, cluster: Cluster) -> dict[str, float]:
    """Computing alone, by part, spread evenly over all GPUs."""
    return {
        "linear": (work.linear + work.logits) / (cluster.gpus * cluster.linear),
        "attention": work.attention / (cluster.gpus * cluster.attention),
        "statistics": work.statistics / (cluster.gpus * cluster.attention),
    }


def memory(g: Geometry, tokens: int, gpus: int, chunk: int) -> dict[str, float]:
    """Bytes on each GPU, weights and heads cut evenly, prompts run `chunk` tokens at a time.

    Activations: the stream whole on every GPU, before and behind a block and its norm (3 × width), this GPU's part of
    queries, keys, values, outputs and of the MLP's two halves and their product. Statistics: log-sum-exp and received
    attention of one layer's heads in float32; those of finished layers are on the host.
    """
    parts = (2 * g.heads + 2 * g.kv_heads) * g.head_dim + 3 * g.inner
    return {
        "weights": g.parameters * BYTES / gpus,
        "keys and values": g.kv_bytes * tokens / gpus,
        "activations": chunk * BYTES * (3 * g.width + parts / gpus),
        "statistics": 2 * 4 * g.heads * tokens / gpus,
    }


def network(g: Geometry, tokens: int, gpus: int) -> dict[str, float]:
    """Bytes into each GPU for one forward of so many tokens, by how the model is cut.

    heads (tensor parallel): two all-reduces a layer of the stream, 2(g − 1)/g of it each. sequence (ring attention): keys
    and values of all other GPUs' tokens, and every layer's weights, which are cut, too. layers: the stream, once at each
    cut, which the last of g stages sees once.
    """
    stream, share = g.width * BYTES * tokens, (gpus - 1) / gpus
    return {
        "heads": g.layers * 2 * 2 * share * stream,
        "sequence": share * (g.kv_bytes * tokens + g.layers * g.matrices * BYTES),
        "layers": stream,
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


LENGTHS = (131_072, 262_144, 524_288, 1_048_576)
DEPTHS = (0, 25, 50, 75, 100)


def tables(g: Geometry = LARGE) -> str:
    """All of docs/scale.md's figures."""
    return "\n\n".join((_flops(g), _seconds(g), _memory(g), _network(g)))


def _flops(g: Geometry) -> str:
    rows = []
    for n in LENGTHS:
        plain, whole, block = forward(g, n), sinks(g, n), needles(g, n, DEPTHS)
        rows.append([
            f"{n:,}", f"{plain.linear / 1e15:,.0f}", f"{plain.attention / 1e15:,.0f}", f"{whole.statistics / 1e15:,.0f}",
            f"{block.statistics / 1e15:.2f}", f"{block.flops / 1e15:,.0f}", f"{5 * plain.flops / block.flops:.2f}",
        ])  # fmt: skip
    head = ("tokens", "matrices", "attention", "received", "24 rows × 5", "block of five needles", "five alone / block")
    return table(head, rows)


def _seconds(g: Geometry) -> str:
    rows = []
    for n in LENGTHS:
        parts = [seconds(w, H100) for w in (forward(g, n), sinks(g, n), needles(g, n, DEPTHS))]
        plain, whole, block = (sum(p.values()) for p in parts)
        hours = 8 * block / 3600
        rows.append(
            [f"{n:,}", *(f"{x:,.0f}" for x in (plain, whole, block)), f"{hours:.1f}", f"{H100.gpus * hours:.1f}"]
        )
    head = (
        "tokens", "a prompt (s)", "a text of `scan-sinks` (s)", "a block (s)", "8 blocks (h)",
        "8 blocks, one GPU at a time (h)",
    )  # fmt: skip
    return table(head, rows)


def _memory(g: Geometry) -> str:
    rows = []
    for n in LENGTHS:
        cut, whole = memory(g, n, 8, 16_384), memory(g, n, 8, n)
        total = sum(cut.values())
        rows.append([f"{n:,}", *(f"{x / GIB:.1f}" for x in (*cut.values(), total)), f"{sum(whole.values()) / GIB:.1f}"])
    head = ("tokens", "weights", "keys and values", "activations", "statistics", "together", "without chunks")
    return table(head, rows)


def _network(g: Geometry) -> str:
    n, rows = LENGTHS[-1], []
    compute = sum(seconds(forward(g, n), H100).values())
    for name, size in network(g, n, 8).items():
        took = [size / c.network for c in (H100, ETHERNET)]
        rows.append([name, f"{size / 1e12:.2f}", *(f"{t:,.1f}" for t in took), *(f"{t / compute:.1%}" for t in took)])
    head = ("cut by", "TB into each GPU", "NVLink (s)", "Ethernet (s)", "of computing", "of computing, Ethernet")
    return table(head, rows)


if __name__ == "__main__":
    print(tables())
