"""Every score of the atlas: its name, what it means, in which versions it comes and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench_analyses.atlas_parts.estimates import Formula, ratio, variance
from workbench_analyses.atlas_parts.patterns import FAINT, NEAR, RAW, VERSIONS


@dataclass(frozen=True)
class Measure:
    """One score. of: what it makes of the sums of `reads`; without it a prompt gives one number (`battery`).

    headvis: the name of the same metric in HeadVis' files, as Neuronpedia writes them.
    """

    name: str
    title: str
    unit: str
    help: str
    versions: tuple[str, ...] = (RAW,)
    reads: tuple[str, ...] = ()
    of: Formula | None = field(default=None, compare=False)
    headvis: str | None = None


def _share(name: str, title: str, unit: str, above: str, below: str, help: str, headvis: str | None = None) -> Measure:
    return Measure(name, title, unit, help, VERSIONS, (above, below), ratio(above, below), headvis)


CORPUS = (
    _share("self", "self-attention", "attention", "self", "rows",
           "mean attention of each token to itself", "self_attention_score"),
    _share("previous", "previous token", "attention", "previous", "previous_rows",
           "mean attention to the token before", "prev_token_score"),
    _share("entropy", "entropy", "nats", "entropy", "rows",
           "mean Shannon entropy of the rows: 0 for one key, log of their number for even attention", "pattern_entropy"),
    _share("distance", "QK distance", "tokens", "distance", "rows",
           "mean distance from query to key, weighted by attention", "qk_distance"),
    Measure("distance_variance", "QK distance variance", "tokens²",
            "variance of that distance over all rows together", VERSIONS, ("distance", "distance2", "rows"),
            variance("distance", "distance2", "rows"), "qk_distance_variance"),
    _share("induction", "induction", "attention", "strong_induction", "copies",
           f"at tokens that stood in the text before: attention to what followed them; weights below {FAINT:g} count as 0",
           "induction_score"),
    _share("duplicate", "duplicate token", "attention", "echo", "copies",
           "at tokens that stood in the text before: attention to their earlier copies"),
    _share("near", "near", "attention", "near", "rows", f"attention to the last {NEAR} tokens, the own one included"),
    Measure("first", "first token", "attention", "mean attention of all rows to the first token (BOS, where there is one)",
            (RAW,), ("first", "rows"), ratio("first", "rows")),
)  # fmt: skip
"""Scores on the corpus sample; each is one number over all rows of all texts."""
SINKS = (
    Measure("sink_mass", "mass on sinks", "attention", "share of the attention that goes to the head's sinks",
            (RAW,), ("gone", "all"), ratio("gone", "all")),
    Measure("hidden_sinks", "hidden sinks", "sinks a text", "sinks by the corrected rule that are not the first token",
            (RAW,), ("hidden_sinks", "texts"), ratio("hidden_sinks", "texts")),
    Measure("dropped", "rows dropped", "share of rows", "rows with less than 5 % left without the sinks",
            (RAW,), ("dropped", "all_rows"), ratio("dropped", "all_rows")),
)  # fmt: skip
"""What is taken away in the version without sinks."""
REPEATS = (
    _share("repeats_echo", "echo, repeated tokens", "attention", "echo", "rows",
           "random tokens four times: attention to earlier copies of the token"),
    _share("repeats_induction", "induction, repeated tokens", "attention", "induction", "rows",
           "random tokens four times: attention to what followed earlier copies"),
    _share("repeats_previous", "previous token, repeated tokens", "attention", "previous", "previous_rows",
           "random tokens four times: attention to the token before"),
)  # fmt: skip
BATTERY = (
    Measure("retrieval", "retrieval", "score", "needles: share of the answer's tokens that the head copies as it is said"),
    Measure("needle_mass", "needle mass", "attention", "needles: attention to the answer while it is said"),
    Measure("query_focus", "query focus", "attention",
            "needles: attention of the question to the needle, minus the same where nothing is asked"),
    Measure("ioi_mover", "IOI: end → IO", "attention", "from the last token to the name that is to come"),
    Measure("ioi_s_inhibition", "IOI: end → S2", "attention", "from the last token to the repeated name's second place"),
    Measure("ioi_duplicate", "IOI: S2 → S1", "attention", "from the repeated name to its first place"),
    Measure("ioi_induction", "IOI: S2 → S1+1", "attention", "from the repeated name to what followed its first place"),
    Measure("ioi_previous", "IOI: S1+1 → S1", "attention", "from the token after the repeated name to the name"),
    Measure("visual", "visual mass", "attention", "attention of the question to the picture before it", VERSIONS),
)  # fmt: skip
"""Scores with one number a prompt."""


def role_measure(role: str) -> Measure:
    """A role of a traced circuit as a score."""
    name = "circuit_" + "".join(c if c.isalnum() else "_" for c in role.lower())
    said = f"share of the circuit's effect that the head carries as “{role}”; 0 outside the circuit"
    return Measure(name, f"circuit: {role}", "share of the gap", said)
