"""Submissions of the small example set: good, attacking and broken, and a way to grade them like an instructor."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "assignments" / "example.md"
LAW, CUBE = "law = a**2 - w**2", "def cube(x):\n    return x**3"
ORDINARY = 54321


@dataclass(frozen=True)
class Attack:
    """What a student hands in and what it must get: answers, a change of the notebook, points of law and cube."""

    name: str
    law: str = LAW
    cube: str = CUBE
    points: tuple[float, float] = (3, 4)
    edit: Callable[[NotebookNode], None] = lambda nb: None
    status: str = "graded"


def cell(nb: NotebookNode, grade_id: str) -> NotebookNode:
    return next(c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def edited(nb: NotebookNode) -> None:
    """Test cells emptied and worth a hundred, a cell turned to text, a kernel of the student's own."""
    for c in nb.cells:
        if c.metadata.get("nbgrader", {}).get("grade"):
            c.metadata.nbgrader.points = 100
            c.metadata.nbgrader.schema_version = 99
            c.source = "1"
    cell(nb, "submit-cube").cell_type = "markdown"
    nb.metadata.kernelspec = {"name": "evil", "display_name": "Evil", "language": "sh"}


def removed(nb: NotebookNode) -> None:
    nb.cells = [c for c in nb.cells if not c.metadata.get("nbgrader", {}).get("grade")]


def copied_answer(nb: NotebookNode) -> None:
    """A second cell with the name of the first, and an added cell with a helper."""
    nb.cells.insert(0, nbformat.v4.new_markdown_cell("<script>alert(1)</script> my notes"))
    again = copy.deepcopy(cell(nb, "answer-law"))
    again.source = "law = 0"
    nb.cells.append(again)


def pasted(nb: NotebookNode) -> None:
    """A picture in the written answer, one that is not there, half an emoji, TeX that is none, many quotes."""
    written = cell(nb, "written-why-odd")
    written.source = "![page](attachment:page.png) $n, m > k$ \ud83d"
    written.source += "\n\n$\\href{javascript:alert(1)}x$ $\\def\\x{\\x\\x}\\x$ $\\require{[mathjax]/../../evil}$"
    written.attachments = {"page.png": {"image/png": PIXEL, "text/html": "<script>alert(1)</script>"}}
    for text in ("![gone](attachment:gone.png)", "> " * 4000 + "deep", "<b>" * 20000):
        nb.cells.append(nbformat.v4.new_markdown_cell(text))


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LIAR = "class Liar:\n    __eq__ = __req__ = lambda self, other: True\n    __hash__ = None\n"
INTEGER = "class Liar(int):\n    __eq__ = __req__ = lambda self, other: True\n    __hash__ = None\n"
DROP = """
import ast
class Drop(ast.NodeTransformer):
    visit_Assert = lambda self, node: ast.Pass()
get_ipython().ast_transformers.append(Drop())
law = a + w
"""
SILENT = "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])"
NOISE = "print('x' * 30_000_000)\nfor i in range(200_000): print(i)\n"
HTML = "from IPython.display import HTML, display\ndisplay(HTML('<script>stolen()</script>'))\n"
FORGED = """
from IPython.display import display
for value in (1, 2):
    display({"application/vnd.symlib.answer+json": {"answer": value}}, raw=True)
law = 3
submit = display
"""
PROBES = """
import os, pathlib, socket, subprocess, sys, tempfile
def probe(name, attempt):
    try:
        result = attempt()
    except BaseException as error:
        print(f"{{name}}: blocked ({{type(error).__name__}})")
    else:
        print(f"{{name}}: REACHED {{str(result)[:80]}}")
def fork():
    for _ in range(300):
        if os.fork() == 0:
            import time; time.sleep(3); os._exit(0)
def named(pattern):
    found = [*pathlib.Path("/").glob(pattern)]
    assert found
    return found
probe("network", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
probe("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
probe("read-canary", lambda: open({canary!r}).read())
probe("delete-canary", lambda: os.remove({canary!r}))
probe("read-source", lambda: open({source!r}).read())
probe("read-checks", lambda: open({tools!r}).read())
probe("gradebook", lambda: named("tmp/course*/gradebook.db"))
probe("write-venv", lambda: open(os.path.join(sys.prefix, "canary"), "w"))
probe("write-symlib", lambda: open(os.path.join(os.path.dirname(sys.modules["symlib"].__file__), "x.py"), "w"))
probe("memory", lambda: len(bytearray(6 << 30)))
probe("disk", lambda: open("/tmp/big", "wb").write(bytes(100 << 20)))
probe("root", lambda: os.setuid(0))
probe("kill", lambda: os.kill({pid}, 9))
probe("environment", lambda: os.environ["SYMLIB_CANARY"])
probe("processes", lambda: [p for p in named("proc/[0-9]*/cmdline") if b"tools.assignments" in p.read_bytes()][0])
probe("fork", fork)
law = 0
"""
PROBED = [line.split('"')[1] for line in PROBES.splitlines() if line.startswith("probe(")]

ATTACKS = [
    Attack("good"),
    Attack("empty", law="law = None", cube="raise NotImplementedError", points=(0, 0)),
    Attack("liar", law=LIAR + "law = Liar()", cube=INTEGER + "cube = lambda x: Liar(7)", points=(0, 0)),
    Attack("ast-transformer", law=DROP, points=(0, 4)),
    Attack("input-transformer", law=SILENT, points=(0, 0)),
    Attack("edited", law="law = None", cube="cube = None", points=(0, 0), edit=edited),
    Attack("removed", edit=removed),
    Attack("copied", edit=copied_answer),
    Attack("pasted", edit=pasted),
    Attack("noise", law=NOISE + LAW, cube=HTML + CUBE),
    Attack("stderr", cube="def cube(x):\n    import sys; print('note', file=sys.stderr)\n    return x**3"),
    Attack("forged", law=FORGED, points=(0, 0)),
    Attack("exit", cube="import os; os._exit(0)", points=(3, 0), status="stopped"),
    Attack("tower", law="law = sympy.Symbol('a') + sympy.exp(sympy.exp(sympy.exp(sympy.exp(a**24))))", points=(0, 4)),
]
LOOPS = [
    Attack("loop", cube="import time\nwhile True: time.sleep(0.1)", points=(3, 0)),
    Attack(
        "stubborn", points=(3, 0), status="stopped",
        cube="import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.1)",
    ),
]  # fmt: skip
BROKEN = {"corrupt": b'{"cells": [', "nothing": b"", "binary": bytes(range(256)), "other": b""}


def fill(release: NotebookNode, attack: Attack) -> NotebookNode:
    """The released notebook as this student hands it in."""
    nb = copy.deepcopy(release)
    cell(nb, "answer-law").source = attack.law
    cell(nb, "answer-cube").source = attack.cube
    attack.edit(nb)
    return nb


def hand_in(folder: Path, release: NotebookNode, attacks: list[Attack]) -> Path:
    folder.mkdir()
    for attack in attacks:
        nb = fill(release, attack)
        (folder / f"{attack.name}.ipynb").write_text(json.dumps(nb), encoding="utf-8")
    return folder


def run(
    root: Path, *arguments: object, path: str | None = None, user: bool = False
) -> subprocess.CompletedProcess[str]:
    """`python -m tools.assignments`, as an ordinary user if asked; the results land below `root`."""
    command = [sys.executable, "-m", "tools.assignments", "--root", str(root), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SYMLIB_CANARY": "secret", "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": path} if path is not None else {}
    if user and os.getuid() == 0:
        root.chmod(0o777)
        seen = Path(sys.base_prefix)  # may lie in a folder that is closed to others
        between = [p for p in reversed(seen.parents) if len(p.parts) > 2]
        opened = [w for p in between for w in ("--perms", "0755", "--dir", str(p))]
        shown = ["--perms", "0755", "--tmpfs", "/root", *opened, "--ro-bind", str(seen), str(seen)]
        closed = seen.is_relative_to("/root")
        outer = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *(shown if closed else [])]
        drop = ["setpriv", "--reuid", str(ORDINARY), "--regid", str(ORDINARY), "--clear-groups"]
        command = [*outer, "--", *drop, "env", f"HOME={root}", *command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=900)


def needs_sandbox() -> pytest.MarkDecorator:
    """Without bubblewrap the test is skipped, and fails where CI=true asked for everything."""
    missing = shutil.which("bwrap") is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason="bubblewrap is not installed: apt install bubblewrap")
