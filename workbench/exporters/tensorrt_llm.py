"""TensorRT-LLM windows per layer: `kv_cache_config` with max_attention_window and sink_token_length, as YAML.

A shorter list of windows repeats over the layers. Layers hold all their heads or none, so a layer has a window only if
none of its heads is full.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.layers import whole_layers
from workbench.exporters.patterns import pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.untrusted import LARGEST_YAML, parsed_yaml, read_text

FILE = "trtllm_kv_windows.yaml"


def write(split: Split, *, share: float = 0.0, force: bool = False) -> Written:
    """Windows of sink + recent tokens, and of `context` tokens for full layers. See `layers.whole_layers`."""
    how = split.how
    if how.context is None or how.context <= how.window:
        raise BadInput(f"format=tensorrt-llm writes windows of full layers: give context= above {how.window} tokens")
    layers = whole_layers(split, share, force)
    windows = [how.context if full else how.window for full in layers.full]
    about = layers.written(split).about()
    lines = [f"# {line}" for line in dumps(about, indent=1).splitlines()]
    lines += ["kv_cache_config:", f"  max_attention_window: {windows}", f"  sink_token_length: {how.sink_size}"]
    return Written({FILE: ("\n".join(lines) + "\n").encode()}, (layers.note(split.full.size),), about)


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for heads of layers with the largest window. Raises BadInput where the number of layers or heads is unknown."""
    text = read_text(path, "a config of TensorRT-LLM", LARGEST_YAML)
    try:
        config = parsed_yaml(text)["kv_cache_config"]
        windows, sink = config["max_attention_window"], config.get("sink_token_length") or 0
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BadInput(f"{path} is no YAML with kv_cache_config and max_attention_window in it") from None
    if not isinstance(windows, list) or not windows or not all(type(w) is int and 0 < w < 1 << 40 for w in windows):
        raise BadInput(f"{path}: max_attention_window is no list of windows")
    if type(sink) is not int or sink < 0:
        raise BadInput(f"{path}: sink_token_length {str(sink)[:40]!r} is no number of tokens")
    layers, heads = shape.grid(path, "kv")
    if len(windows) > layers:
        raise BadInput(f"{path} has windows for {len(windows)} layers, the model has {layers}")
    each = np.resize(windows, layers)
    pattern = np.repeat((each == each.max())[:, None].astype(float), heads, 1)
    recent = {"sink_size": sink, "recent_size": int(each.min()) - sink} if sink < each.min() < each.max() else {}
    return pattern_scores(pattern, "imported/tensorrt-llm", recent, heads)


EXPORTER = Exporter(
    name="tensorrt-llm",
    help="a window per layer, refused where it cuts a full head: TensorRT-LLM KvCacheConfig",
    marker=FILE,
    write=write,
    read=read,
    level="kv",
    use=f"trtllm-serve MODEL --extra_llm_api_options FOLDER/{FILE}",
)
