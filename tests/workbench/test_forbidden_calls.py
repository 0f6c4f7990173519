"""What the shipped packages must not do: run text, unpickle, start shells, ask the network, trust a model's code unasked.

Every exception stands below with its reason; one that is no longer needed fails, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("workbench", "analyses/workbench_analyses", "kernels/workbench_kernels")
MODULES = set(
    """
    pickle pickletools marshal shelve dill cloudpickle joblib subprocess pty multiprocessing ctypes cffi code codeop
    socket socketserver ssl http urllib urllib3 requests httpx aiohttp websockets ftplib smtplib telnetlib xmlrpc webbrowser
    huggingface_hub
""".split()
)
CALLS = re.compile(
    r"eval|exec|compile|__import__|input|breakpoint|os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*|fork)|importlib\.import_module|"
    r"yaml\.(load|load_all|unsafe_load|full_load|Loader|UnsafeLoader|FullLoader)|torch\.(load|hub\.\w+|package\.\w+|jit\.load)|"
    r"(np|numpy)\.load|(pd|pandas)\.eval|[\w.]*(to_pickle|read_pickle|hf_hub_download|snapshot_download|urlopen)"
)
GUARDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""Calls that are sound with this argument."""
FLAGS = {"trust_remote_code": True, "shell": True, "allow_pickle": True, "weights_only": False, "autoescape": False}
"""Arguments and defaults that must not be written."""

ALLOWED = {
    ("workbench/locks.py", "import socket"): "the name of this host, for the lock; no socket is opened",
    (
        "workbench/sources.py",
        "import urllib",
    ): "fails at once where the hub of an id that was asked for is out of reach",
    ("workbench/sources.py", "urllib.request.urlopen"): "the same",
    ("workbench/sources.py", "import huggingface_hub"): "whether an id is in the cache",
    ("workbench/unasked.py", "import huggingface_hub"): "whether an id is in the cache, and that no other is fetched",
    ("workbench/geometry.py", "import huggingface_hub"): "the config of a hub id that was asked for",
    ("workbench/geometry.py", "hf_hub_download"): "the same",
    ("workbench/exporters/torch_files.py", "import pickletools"): "takes commands apart, to run none of them",
    ("workbench/untrusted.py", "yaml.load"): "with a loader of plain values, made from SafeLoader",
    ("workbench/__init__.py", "importlib.import_module"): "names of a table in the file",
    ("workbench/discovery.py", "importlib.import_module"): "modules of our own packages, found by scanning them",
    ("workbench/exporters/__init__.py", "importlib.import_module"): "the same",
    ("workbench/policies/__init__.py", "importlib.import_module"): "the same",
    ("workbench/visual_methods/__init__.py", "importlib.import_module"): "the same",
    ("workbench/tasks/circuit_prompts.py", "importlib.import_module"): "the same",
    ("workbench/reference_models/planted/__init__.py", "importlib.import_module"): "the same",
    ("workbench/commands/train_reference.py", "importlib.import_module"): "one of the literals of its option",
    (
        "analyses/workbench_analyses/__init__.py",
        "importlib.import_module",
    ): "modules of the package, found by scanning it",
    (
        "kernels/workbench_kernels/triton_compile.py",
        "import subprocess",
    ): "nvcc's tools on our own kernels, arguments as a list",
}


def uses(tree: ast.AST) -> Iterator[str]:
    """What of the above a file does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {a.name.split('.')[0]}" for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"import {str(node.module).split('.')[0]}"
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _defaults(node.args)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in FLAGS:
            held = node.value.keywords if isinstance(node.value, ast.Call) else []
            yield from (
                f"{node.target.id} by default"
                for k in held
                if k.arg == "default" and _is(k.value, FLAGS[node.target.id])
            )


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    flag, sound = GUARDED.get(name, ("", None))
    guarded = any(k.arg == flag and _is(k.value, sound) for k in node.keywords)
    if CALLS.fullmatch(name) and not guarded:
        yield name
    yield from (f"{k.arg}={FLAGS[k.arg]}" for k in node.keywords if k.arg in FLAGS and _is(k.value, FLAGS[k.arg]))


def _defaults(args: ast.arguments) -> Iterator[str]:
    places = [*args.posonlyargs, *args.args]
    pairs = [*zip(reversed(places), reversed(args.defaults)), *zip(args.kwonlyargs, args.kw_defaults)]
    yield from (f"{a.arg} by default" for a, value in pairs if a.arg in FLAGS and value and _is(value, FLAGS[a.arg]))


def _is(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_is_run_unpickled_or_fetched_but_what_stands_above():
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for home in SHIPPED for path in (ROOT / home).rglob("*.py") for what in uses(ast.parse(path.read_text()))
    }  # fmt: skip
    assert found - ALLOWED.keys() == set(), "give a reason above, or do without"
    assert ALLOWED.keys() - found == set(), "no longer needed: take it out"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from urllib.request import urlopen", "eval('1')", "exec(x)", "compile(x, '', 'exec')",
        "torch.load(f)",
        "torch.load(f, weights_only=False)", "np.load(f)", "np.load(f, allow_pickle=True)", "yaml.load(t, Loader)",
        "yaml.unsafe_load(t)",
        "subprocess.run(x, shell=True)", "load(x, trust_remote_code=True)", "def load(x, trust_remote_code=True): ...",
        "def load(x, *, trust_remote_code=True): ...", "class C:\n    trust_remote_code: bool = chz.field(default=True)",
        "os.system('x')", "os.execv('x', [])", "importlib.import_module(name)", "__import__(name)",
        "pd.read_pickle(f)", "frame.to_pickle(f)",
    ],
)  # fmt: skip
def test_each_of_them_would_be_seen(text):
    assert list(uses(ast.parse(text)))


def test_the_threat_model_names_tests_that_are_there():
    named = set(re.findall(r"`([a-z_]+/test_\w+\.py)`", (ROOT / "docs" / "threat-model.md").read_text()))
    assert len(named) > 8 and not [name for name in named if not (ROOT / "tests" / name).exists()]


def test_negative_control_sound_text_is_not_seen():
    for text in (
        "import re", "re.compile('x')", "model.eval()", "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)",
        "yaml.safe_load(t)", "def load(x, trust_remote_code=False): ...", "load(x, trust_remote_code=asked)",
    ):  # fmt: skip
        assert not list(uses(ast.parse(text))), text
