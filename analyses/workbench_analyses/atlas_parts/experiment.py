"""The atlas, step by step: corpus, repeated tokens, battery, pictures, roles; each unit of work can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch

from workbench.circuits import read_circuit
from workbench.heads import ModelIdentity
from workbench.jobs import Job
from workbench.jsonable import digest, dumps
from workbench.models import Model, load
from workbench.tasks.needle import Assembler
from workbench_analyses.atlas import Atlas
from workbench_analyses.atlas_parts import patterns
from workbench_analyses.atlas_parts.asking import ask_battery, draw, role_scores
from workbench_analyses.atlas_parts.estimates import Sums, estimate, mean_over
from workbench_analyses.atlas_parts.files import files
from workbench_analyses.atlas_parts.measures import BATTERY, CORPUS, REPEATS, SINKS, Measure
from workbench_analyses.atlas_parts.patterns import RAW, REST, VERSIONS, Batch
from workbench_analyses.atlas_parts.prose import UNKNOWN
from workbench_analyses.atlas_parts.raising import raised
from workbench_analyses.atlas_parts.result import HeadAtlas
from workbench_analyses.atlas_parts.side import Score, Sequences, Side, most_read, skipped_layers
from workbench_analyses.atlas_parts.texts import Corpus, corpus, fitted, repeated, shown_texts
from workbench_analyses.atlas_parts.work import Work, word
from workbench_analyses.sinks.reading import read_texts


def run_atlas(config: Atlas, model: Model | None = None) -> HeadAtlas:
    """The whole atlas; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    also = load(config.also, config.dtype, config.device, config.trust_remote_code) if config.also else None
    if also is not None:
        also.backend, also.memory = config.backend, config.memory
    second = None if also is None else ModelIdentity(also.name, *also.identity())
    question = config.question_asked()
    if second is not None:
        question |= {"also_identity": [second.config_hash, second.weights]}
    if config.texts:
        question |= {"asked": digest(list(read_texts(config.texts).values()))}
    if config.circuit:
        question |= {"circuit": dumps(asdict(read_circuit(config.circuit)))}
    with job.running("atlas", question):
        side = side_of(Work(config, job.model, job.identity, job.remember, job.stages))
        other = None
        if also is not None and second is not None:
            other = side_of(Work(config, also, second, job.remember, job.stages, "also-"))
        result = HeadAtlas(side, other, config, job.model.label, job.cost(), job.path)
        job.keep(result, files)
    return result


def side_of(work: Work) -> Side:
    """One model's part."""
    model, config = work.model, fitted(work.config, work.model)
    work.config = config
    assembler = Assembler(model.tokenizer, "none")
    texts = corpus(config, model, assembler)
    sums = _corpus_sums(work, texts)
    again, repeat_sums = _repeats(work)
    found = ask_battery(work, assembler)
    shown = [*shown_texts(texts, again), *found.shown]
    scores = [*_pattern_scores(sums, CORPUS, config.seed), *_sink_scores(sums, config.seed)]
    scores += [] if repeat_sums is None else _pattern_scores(repeat_sums, REPEATS, config.seed)
    scores += _battery_scores(found.samples, config.seed)
    scores += role_scores(work)
    reads, shares = most_read(sums[f"{REST}.words"].sum(0).astype(np.float64))
    writes, unsaid = raised(work, texts, reads)
    return Side(
        work.identity, model.label, model.n_kv_heads, skipped_layers(model.n_layers, list(model.seam.layers)),
        tuple(scores), _profiles(sums), tuple(word(model, int(i)) for i in texts.words), reads, shares, writes,
        draw(work, shown), _sequences(model, texts, sums), {**found.left_out, **unsaid}, _notes(texts),
    )  # fmt: skip


def _corpus_sums(work: Work, texts: Corpus) -> dict[str, np.ndarray]:
    config, parts = work.config, []
    report, starts = work.stages.stage("corpus"), list(range(0, len(texts.tokens), config.batch))
    for i, start in enumerate(starts):
        rows = slice(start, start + config.batch)
        batch = Batch(texts.tokens[rows], None, 0, texts.places[rows], len(texts.words))
        kept = max(0, min(config.sequences - start, config.batch))
        parts.append(work.unit(f"corpus-{start}", lambda b=batch, k=kept: patterns.read_patterns(work.model, b, 0, k)))
        report(i + 1, len(starts))
    return patterns.joined(parts)


def _repeats(work: Work) -> tuple[torch.Tensor | None, dict[str, np.ndarray] | None]:
    config = work.config
    if not config.repeats:
        return None, None
    tokens, start = repeated(config, work.model)
    parts, report = [], work.stages.stage("repeated tokens")
    for first in range(0, len(tokens), config.batch):
        batch = Batch(tokens[first : first + config.batch], start=start)
        parts.append(work.unit(f"repeats-{first}", lambda b=batch: patterns.read_patterns(work.model, b)))
        report(min(first + config.batch, len(tokens)), len(tokens))
    return tokens, patterns.joined(parts)


def _pattern_scores(sums: dict[str, np.ndarray], measures: tuple[Measure, ...], seed: int) -> list[Score]:
    out = []
    for m in measures:
        assert m.of is not None
        out += [Score(m, v, estimate(patterns.version(sums, v), m.reads, m.of, seed)) for v in m.versions]
    return out


def _battery_scores(samples: Mapping[str, np.ndarray], seed: int) -> list[Score]:
    named = [(m, v, m.name if v == RAW else f"{m.name}/{v}") for m in BATTERY for v in m.versions]
    return [Score(m, v, mean_over(samples[name], seed)) for m, v, name in named if name in samples]


def _sink_scores(sums: dict[str, np.ndarray], seed: int) -> list[Score]:
    """What the version without sinks takes away, from both readings."""
    raw, rest = (patterns.version(sums, v) for v in VERSIONS)
    held: Sums = {
        "gone": np.maximum(raw["mass"] - rest["mass"], 0), "all": raw["mass"], "hidden_sinks": rest["hidden_sinks"],
        "texts": np.ones_like(raw["mass"]), "dropped": rest["dropped"], "all_rows": raw["rows"],
    }  # fmt: skip
    return [Score(m, RAW, estimate(held, m.reads, m.of, seed)) for m in SINKS if m.of is not None]


def _profiles(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {}
    for v in VERSIONS:
        one = patterns.version(sums, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            out[v] = one["profile"].sum(0) / one["rows"].sum(0)[..., None]
    return out


def _sequences(model: Model, texts: Corpus, sums: dict[str, np.ndarray]) -> Sequences | None:
    if "keys" not in sums:
        return None
    n = len(sums["keys"])
    words = tuple(tuple(word(model, t) for t in row) for row in texts.tokens[:n].tolist())
    return Sequences(words, sums["keys"], sums["weights"])


def _notes(texts: Corpus) -> tuple[str, ...]:
    n, length = texts.tokens.shape
    said = f"corpus: {n} texts of {length} tokens ({texts.source})"
    if texts.unknown < UNKNOWN:
        return (said,)
    return (said, f"{texts.unknown:.0%} of the corpus are tokens that this vocabulary lacks: give texts= of its own")
