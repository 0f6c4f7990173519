"""The names of the backends, apart from them: options are checked before torch is imported."""

from __future__ import annotations

from workbench.errors import BadInput, did_you_mean

NAMES = ("auto", "chunked", "triton", "reference", "hooks")
DOC = "what computes attention: auto, chunked, triton, reference or hooks"
UNSAID = ("backend", "auto")
"""The option that a run's question leaves out: folders from before there was a choice keep their names."""


def checked(name: str) -> str:
    """The name, if there is such a backend. Raises BadInput."""
    if name not in NAMES:
        raise BadInput(f"backend={name} is not known: use one of {', '.join(NAMES)}.{did_you_mean(str(name), NAMES)}")
    return name
