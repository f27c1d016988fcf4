"""The package keeps its shape: who may import whom, no hidden state or output, sources and types on all that is public.

Every rule is a function from source text to a list of offences, and meets a mutant that it must reject.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "symlib"
SOURCES = {p.relative_to(ROOT).with_suffix("").as_posix(): p.read_text() for p in sorted(ROOT.rglob("*.py"))}

LEAVES = {"guards", "cards"}  # anyone may import them
MAY_IMPORT = {
    "ops": set(),
    "groups": {"ops"},
    "symmetry": {"groups", "ops", "measures"},
    "activations": {"groups", "ops"},
    "answers": set(),
    "architectures": {"architectures", "activations", "symmetry", "groups", "ops"},
    "proofs": {"activations", "architectures", "symmetry", "groups", "ops"},
    "conserved": {"symmetry", "groups", "ops"},
    "checks": {"architectures", "symmetry", "groups", "conserved"},
    "asymmetric": {"asymmetric", "activations", "architectures", "checks", "symmetry", "groups", "ops"},
    "orbits": {"orbits", "activations", "architectures", "checks", "symmetry", "groups"},
    "models": {"models", "activations", "architectures", "checks", "symmetry", "groups"},
    "counting": {"counting", "activations", "architectures", "conserved", "symmetry", "ops"},
    "data": {"data"},
    "dynamics": {"dynamics"},
    "measures": {"measures"},
    **{name: set() for name in ("plots", "interactive", "results", *LEAVES, "__init__")},
}
ONLY_IN = {
    "sympy": {"answers", "ops", "groups", "activations", "symmetry", "proofs", "conserved"},
    "matplotlib": {"plots"},
    "sklearn": {"data", "measures"},
    "random": set(),
    "IPython": set(),
}
FORBIDDEN = {"print", "hash", "torch.manual_seed", "torch.random.manual_seed", "torch.seed", "torch.set_rng_state"}
HARD, SOFT = 400, 300
OVER_SOFT = {"counting/modular", "groups", "proofs"}  # a longer list is a decision, not an accident


def part(name: str) -> str:
    """The row of the table that a file belongs to: measures/rank is measures."""
    return name.split("/")[0]


def imported(source: str) -> list[str]:
    """The full names of everything that is imported, at any depth."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names]
    return names


def wrong_directions(name: str, source: str) -> list[str]:
    inside = [n for n in imported(source) if n.split(".")[0] == "symlib" or n.startswith(".")]
    targets = {n: [*n.split("."), ""][1] for n in inside}
    allowed = MAY_IMPORT[part(name)] | LEAVES
    return [f"{name} imports {n}" for n, target in targets.items() if target not in allowed]


def misplaced_libraries(name: str, source: str) -> list[str]:
    tops = {n.split(".")[0] for n in imported(source)}
    return [f"{name} imports {t}" for t in sorted(tops & ONLY_IN.keys()) if part(name) not in ONLY_IN[t]]


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def hidden_state(name: str, source: str) -> list[str]:
    """Calls of print, hash and global generators, and global statements."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Global):
            found.append(f"{name}:{node.lineno} global {', '.join(node.names)}")
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in FORBIDDEN or called.startswith(("np.random.", "numpy.random.", "random.")):
                found.append(f"{name}:{node.lineno} calls {called}")
    return found


def public(source: str) -> list[ast.FunctionDef | ast.ClassDef]:
    body = ast.parse(source).body
    return [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]


def undocumented(name: str, source: str) -> list[str]:
    """Modules, public functions and classes without a docstring, public functions without a source."""
    found = [] if ast.get_docstring(ast.parse(source)) else [f"{name} has no docstring"]
    for node in public(source):
        text = ast.get_docstring(node) or ""
        if not text:
            found.append(f"{name}.{node.name} has no docstring")
        elif isinstance(node, ast.FunctionDef) and not any(w for w in text.split("Source:")[1:] if w.strip()):
            found.append(f"{name}.{node.name} names no source")
    return found


def unannotated(name: str, source: str) -> list[str]:
    """Parameters and results of public functions, and of public methods, without a type."""
    found = []
    for owner in public(source):
        nodes = (
            [owner] if isinstance(owner, ast.FunctionDef) else [n for n in owner.body if isinstance(n, ast.FunctionDef)]
        )
        for node in nodes:
            a = node.args
            every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
            where = f"{name}.{node.name}"
            found += [f"{where}: {p.arg}" for p in every if p.annotation is None and p.arg not in ("self", "cls")]
            found += [] if node.returns is not None else [f"{where}: result"]
    return found


def too_long(name: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    limit = HARD if name in OVER_SOFT else SOFT
    return [f"{name} has {lines} lines, more than {limit}"] if lines > limit else []


def computes(name: str, source: str) -> list[str]:
    """Statements of a package's __init__ other than its docstring and imports."""
    if not name.endswith("__init__"):
        return []
    text, *rest = ast.parse(source).body
    docstring = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    others = rest if docstring else [text, *rest]
    return [f"{name}:{n.lineno} computes" for n in others if not isinstance(n, ast.Import | ast.ImportFrom)]


RULES = [wrong_directions, misplaced_libraries, hidden_state, undocumented, unannotated, too_long, computes]
DOC = '"""A module."""\n'
GOOD = DOC + 'def f(a: int) -> int:\n    """One line.  Source: ours."""\n    return a\n'
MUTANTS = [
    (wrong_directions, "dynamics", "from symlib.symmetry import flatten"),
    (wrong_directions, "dynamics", "from symlib import symmetry"),
    (wrong_directions, "dynamics", "import symlib.symmetry"),
    (wrong_directions, "dynamics", "from .symmetry import flatten"),
    (wrong_directions, "dynamics", "from . import symmetry"),
    (wrong_directions, "dynamics", "def f():\n    from symlib.symmetry import flatten"),
    (wrong_directions, "symmetry", "from symlib.architectures import Arch"),
    (wrong_directions, "measures/rank", "from symlib.data import digits"),
    (wrong_directions, "ops", "from symlib.groups import Elem"),
    (misplaced_libraries, "dynamics", "import sympy"),
    (misplaced_libraries, "checks", "from sympy import Matrix"),
    (misplaced_libraries, "results", "import matplotlib.pyplot as plt"),
    (misplaced_libraries, "data", "import random"),
    (misplaced_libraries, "cards", "from IPython.display import display"),
    (hidden_state, "data", "print('done')"),
    (hidden_state, "data", "torch.manual_seed(0)"),
    (hidden_state, "data", "x = np.random.default_rng()"),
    (hidden_state, "data", "np.random.seed(0)"),
    (hidden_state, "data", "seed = hash('name')"),
    (hidden_state, "data", "def f():\n    global cache"),
    (undocumented, "data", "def f(): pass"),
    (undocumented, "data", DOC + "class A: pass"),
    (undocumented, "data", DOC + 'def f():\n    """No source."""'),
    (undocumented, "data", DOC + 'def f():\n    """An empty one.  Source:"""'),
    (undocumented, "data", "x = 1"),
    (unannotated, "data", "def f(a) -> int: ..."),
    (unannotated, "data", "def f(a: int): ..."),
    (unannotated, "data", "def f(*, a) -> int: ..."),
    (unannotated, "data", "def f(*a: int, **k) -> int: ..."),
    (unannotated, "data", "class A:\n    def f(self, a) -> int: ..."),
    (too_long, "data", "\n" * (SOFT + 1)),
    (too_long, "proofs", "\n" * (HARD + 1)),
    (computes, "__init__", DOC + "VERSION = 1"),
    (computes, "measures/__init__", "torch.set_default_dtype(torch.float64)"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule):
    assert [offence for name, source in SOURCES.items() for offence in rule(name, source)] == []


@pytest.mark.parametrize(("rule", "name", "mutant"), MUTANTS)
def test_the_rule_rejects_its_mutant_and_only_that(rule, name, mutant):
    assert rule(name, mutant)
    assert not rule(name, DOC if rule is computes else GOOD)


def test_every_file_has_its_row_and_every_long_file_its_mention():
    assert {part(name) for name in SOURCES} == MAY_IMPORT.keys()
    assert {n for n, s in SOURCES.items() if len(s.splitlines()) > SOFT} <= OVER_SOFT


ALONE = """
import sys, warnings
warnings.simplefilter("error")
import symlib
assert not {"torch", "sympy", "matplotlib"} & sys.modules.keys(), "symlib itself imports a library"
sys.modules["IPython"] = None  # as if it were not installed
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
from symlib import cards, results
cards.show(results.claim("a", "b", measured=1, within=(0, 2), source="ours"))
"""


def test_it_works_without_ipython_and_imports_nothing_by_itself():
    names = ["symlib." + name.replace("/", ".") for name in SOURCES if not name.endswith("__init__")]
    run = subprocess.run([sys.executable, "-c", ALONE, *names], cwd=ROOT.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "ours: b\n  asserted between 0 and 2; source: ours\n"
    assert run.stderr == ""
