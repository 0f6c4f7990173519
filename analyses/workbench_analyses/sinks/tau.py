"""From which Φ a token is a sink token (VAR, arXiv 2503.03321)."""

from __future__ import annotations

from workbench.errors import BadInput
from workbench.models import Model
from workbench.probes.phi import default_tau
from workbench_analyses.attention_sinks import ScanSinks


def check_tau(config: ScanSinks, model: Model) -> float:
    """tau as asked for, or 20·√(d / 4096). Raises BadInput above √d: Φ cannot exceed that."""
    width = int(model.bridge.cfg.d_model)
    if config.tau is not None and not 0 < config.tau <= width**0.5:
        raise BadInput(
            f"tau={config.tau:g}: phi lies between 0 and √d = {width**0.5:.1f} here, it could never exceed it"
        )
    return default_tau(width) if config.tau is None else config.tau
