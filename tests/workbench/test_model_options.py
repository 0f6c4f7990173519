"""What commands on a model share: its order in the help, its checks, and which of it belongs to a run's question."""

from __future__ import annotations

import chz
import pytest

from workbench.errors import BadInput
from workbench.model_options import AttendingOptions, MemoryOptions, ModelOptions, fields_of
from workbench.options import options_of


@chz.chz
class Ask(AttendingOptions):
    model: str = "llama"
    k: int = 3
    batch: int = chz.field(default=8, doc="texts in one forward")
    seed: int = chz.field(default=0, doc="draws texts")


@chz.chz
class Budgeted(MemoryOptions):
    ASIDE = (*MemoryOptions.ASIDE, "memory")

    memory: str = "2GB"
    model: str = "gpt2"


def test_shared_options_stand_last_in_one_order_with_the_help_of_the_command():
    shared = ["dtype", "device", "backend", "trust_remote_code", "batch", "out"]
    assert list(fields_of(Ask)) == list(options_of(Ask)) == ["model", "k", "seed", *shared]
    assert list(fields_of(Budgeted)) == [
        "model",
        "seed",
        "dtype",
        "device",
        "trust_remote_code",
        "batch",
        "memory",
        "out",
    ]
    assert options_of(Ask)["batch"].doc == "texts in one forward" and Ask().batch == 8
    assert options_of(Ask)["device"].doc == options_of(Budgeted)["device"].doc != ""


def test_a_class_without_shared_options_keeps_its_order():
    @chz.chz
    class Own:
        out: str = ""
        seed: int = 0
        k: int = 0

    assert list(fields_of(Own)) == ["out", "seed", "k"]


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Ask, {"dtype": "float8"}, "dtype=float8: use float32, bfloat16, float16, float64"),
        (Ask, {"batch": 0}, "batch=0: give at least 1"),
        (Budgeted, {"seed": -1}, "seed=-1: give at least 0"),
        (Ask, {"backend": "chunkd"}, "Did you mean 'chunked'"),
    ],
)
def test_checks_are_inherited(kind, given, said):
    with pytest.raises(BadInput, match=said):
        kind(**given)
    assert Ask(dtype="float64").dtype == "float64"


def test_the_question_leaves_out_what_changes_no_number_and_a_backend_that_nobody_chose():
    own = {"model": "llama", "k": 3, "seed": 0, "dtype": "float32"}
    assert Ask(batch=1, out=None, device="cpu").question_asked() == {**own, "trust_remote_code": False}
    assert list(Ask(backend="hooks").question_asked()) == [*own, "backend", "trust_remote_code"]
    assert "memory" not in Budgeted().question_asked() and issubclass(Budgeted, ModelOptions)
