"""Every global name that a function reads is there: ruff's F821 is off, for shapes in annotations look like names."""

import builtins
import dis
import importlib
import pkgutil
import types

import pytest
import workbench_analyses
import workbench_kernels

import workbench

PACKAGES = (workbench, workbench_analyses, workbench_kernels)
NAMES = sorted(m.name for p in PACKAGES for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}."))


def missing(module: types.ModuleType) -> list[str]:
    """Names that code of a module loads and that neither it nor Python has."""
    with open(str(module.__file__), encoding="utf-8") as file:
        code, out = [compile(file.read(), str(module.__file__), "exec", dont_inherit=True)], []
    while code:
        one = code.pop()
        code += [c for c in one.co_consts if isinstance(c, types.CodeType)]
        for step in dis.get_instructions(one):
            known = hasattr(module, str(step.argval)) or hasattr(builtins, str(step.argval))
            if step.opname == "LOAD_GLOBAL" and not known:
                out.append(f"{one.co_name}: {step.argval}")
    return out


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("__main__")])
def test_functions_read_names_that_are_there(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs what is not installed: {error}")
    assert missing(module) == []


def test_a_missing_name_is_seen(tmp_path):
    module = types.ModuleType("one")
    module.__file__ = str(tmp_path / "one.py")
    (tmp_path / "one.py").write_text("def f():\n    return [nowhere for _ in range(2)]\n")
    assert len(missing(module)) == 1 and "nowhere" in missing(module)[0]
