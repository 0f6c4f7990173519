"""What a person is told of an export: the line and how clear it is, what it loses, the ranks, how a server is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST = 12


def lines(provenance: Mapping[str, Any], folder: str = "FOLDER") -> list[str]:
    """Lines for the terminal from the record of provenance.json; none without one."""
    if not provenance:
        return []
    made = provenance["cut"]
    out = [f"cut: {made['rule']}"]
    if "full" in made:
        out += [
            f"{made['full']} full, {made['streaming']} streaming heads: sparsity {made['sparsity']:.6g}",
            _line(made),
        ]
    if made["unscored"]:
        out.append(f"{made['unscored']} heads without a score are kept full")
    if "kv_share" in made:
        out.append(f"kept key-value entries at {made['context']:,} tokens: {made['kv_share']:.1%}")
    out += _recall(made.get("recall")) + _ranks(made)
    out.append(f"query heads to key-value heads: {provenance['kv_reduction']}")
    if carried := provenance.get("carried_by_their_group"):
        out.append(f"below the line, full for their group's best head: {_some(carried)}")
    if (lost := provenance.get("retrieval_heads_lost")) is not None:
        out.append(f"heads >= {lost['threshold']:g} that stream: {_some(lost['heads'])}")
    out.append("not validated" if provenance["validation"] == "not validated" else "validated: see report")
    out += [f"note: {note}" for note in provenance["notes"]]
    return out + ([f"use: {provenance['use'].replace('FOLDER', folder)}"] if provenance["use"] else [])


def _line(made: Mapping[str, Any]) -> str:
    margin = "one side is empty" if made["margin"] is None else f"margin {made['margin']:.3g}"
    ties = f"{made['ties']} heads left out equal the last one kept" if made["ties"] else "no ambiguous head"
    return f"at the cut: {ties}, {margin}"


def _recall(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    said = [
        f"recall {found[part]['recall']:.3f}, lower bound {found[part]['low']:.3f} ({found[part]['n']} {what})"
        for part, what in (("search", "needles of the search"), ("report", "unseen needles"))
    ]
    return [*said, "confirmed on unseen needles" if found["confirmed"] else "NOT confirmed on unseen needles"]


def _ranks(made: Mapping[str, Any]) -> list[str]:
    ranks = made.get("per_rank")
    if not ranks:
        return []
    mean = sum(ranks) / len(ranks)
    out = [
        f"full heads by rank: {' '.join(map(str, ranks))}"
        + (f" (heaviest {max(ranks) / mean:.2f} × mean)" if mean else "")
    ]
    return out + ([f"moved to balance them: {_some(made['moved'])}"] if made["moved"] else [])


def _some(heads: Sequence[str]) -> str:
    listed = " ".join(heads[:MOST]) + (" …" if len(heads) > MOST else "")
    return f"{len(heads)} ({listed})" if heads else "none"
