"""One way into every analysis: a whole config, a name or a loaded model, and what is checked before torch is imported.

A new analysis says `config, loaded = entered(ItsConfig, model, options)`, makes cheap checks of its own, calls
`check_cheaply(config, loaded)`, imports what is heavy and runs a `workbench.jobs.Job`; `workbench.model_options` has the
options that its config shares with others, and the question that it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import chz

from workbench.atomic import check_writable
from workbench.errors import BadInput
from workbench.sources import locate

if TYPE_CHECKING:
    from workbench.models import Model

C = TypeVar("C")


def entered(kind: type[C], model: Any, options: Mapping[str, Any]) -> tuple[C, Model | None]:
    """The config, and the model if it was given loaded.

    kind: a chz class with the fields model and out. model: such a config, which options change; a name; a loaded Model
    or a live TransformerBridge: where it was loaded from and its dtype stand in the config, and its backend unless options
    name one. Without a config nothing is written unless options say `out`. Raises BadInput for options that cannot be
    meant, such as a dtype that is not the loaded model's.
    """
    make: Any = kind
    if isinstance(model, kind):
        return (chz.replace(model, **options) if options else model), None
    if isinstance(model, str):
        return make(model=model, **{"out": None, **options}), None
    from workbench.models import load

    loaded = load(model)
    known = {"backend": loaded.backend, "dtype": str(loaded.dtype).removeprefix("torch.")}
    own = {name: value for name, value in known.items() if name in chz.chz_fields(kind)}
    if "dtype" in own and (asked := options.get("dtype", own["dtype"])) != own["dtype"]:
        raise BadInput(f"dtype={asked}: the model is loaded in {own['dtype']}; load it in {asked}, or leave dtype= out")
    return make(model=loaded.source, **{"out": None, **own, **options}), loaded


def check_cheaply(config: Any, loaded: Model | None) -> None:
    """Where the model is, unless it is loaded, and whether `out` can be written; makes nothing.

    config: fields model, trust_remote_code and out. Raises ModelError and BadInput in one line.
    """
    if loaded is None:
        locate(str(config.model), config.trust_remote_code)
    if config.out:
        check_writable(config.out)
