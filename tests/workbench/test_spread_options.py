"""What `shard=` and `engine=` may be, and that neither belongs to a run's question."""

from __future__ import annotations

import chz
import pytest

from workbench.errors import BadInput
from workbench.spread_options import Engine, SpreadOptions, engine_of


@chz.chz
class Ask(SpreadOptions):
    model: str = "llama"


def test_engines():
    assert (
        engine_of("local") == Engine() and engine_of("ray") == Engine(True) and engine_of("ray:12") == Engine(True, 12)
    )


@pytest.mark.parametrize("text", ["", "Ray", "ray:", "ray:0", "ray:-1", "ray:99999999", "slurm", "local:2"])
def test_what_is_no_engine_is_told(text):
    with pytest.raises(BadInput, match="use local, ray, or ray:8"):
        Ask(engine=text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shard": "3/3"}, "count from 0"),
        ({"shard": "0/3", "engine": "ray"}, "give one of them"),
        ({"shard": "0/3", "out": None}, "give out="),
    ],
)
def test_what_does_not_go_together_is_told(given, said):
    with pytest.raises(BadInput, match=said):
        Ask(**given)


def test_neither_is_part_of_the_question():
    assert Ask(shard="1/3").question_asked() == Ask(engine="ray").question_asked() == Ask().question_asked()
    assert "shard" not in Ask().question_asked()
