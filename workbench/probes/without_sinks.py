"""Any probe of attention, as it reads the pattern without attention sinks."""

from __future__ import annotations

from dataclasses import replace

from workbench.errors import BadInput
from workbench.probes.probe import Hides, Probe


def without_sinks(probe: Probe, rule: Hides, name: str | None = None) -> Probe:
    """The same probe where the weights of the sinks are 0; the others are as they were, so a row sums to what is left.

    rule: which keys of which heads are sinks, as a `workbench.sinks.SinkRule` finds them in each layer; give several
    probes the same rule, and they are read together. The model itself is not touched.
    """
    if probe.asks is None:
        raise BadInput(f"{probe.name}: a probe of activations has no sinks to leave out")
    return replace(probe, name=name or f"{probe.name} without sinks", hides=rule)
