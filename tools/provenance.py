"""Sphinx extension: under each figure of a chapter, where it comes from, one click away.

The run of a chapter is stored in its notebook (tools/chapter.py); the commit in which the notebook stands is asked of
git when the site is built, so that no committed text holds it. Rows of the scoreboard get theirs the same way.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx

from tools import notebooks
from tools.notebooks import Chapter

UNKNOWN = "unknown"
SCOREBOARD = "book/appendix/scoreboard"
RUN = re.compile(r'<span class="run" data-chapter="([^"]+)"></span>')
VERSIONS = ("torch", "numpy", "scipy", "sympy")


def commit(path: Path) -> str:
    """The last commit that touched a file, with + when the file differs from it; "unknown" without git."""

    def git(*words: str) -> str:
        command = ["git", *words, "--", path.name]
        return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        last = git("log", "-1", "--format=%h")
        return last + "+" * bool(git("status", "--porcelain")) if last else UNKNOWN
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def origin(chapter: Chapter) -> dict:
    """What is known of an executed notebook: its commit, its defaults, and its run where that was stored."""
    nb = nbformat.read(chapter.notebook, as_version=4)
    known = {key: value for key, value in notebooks.defaults(nb).items() if key in ("profile", "seed")}
    run = dict(nb.metadata.get("symlib", {}))
    return {"chapter": chapter.name, "page": commit(chapter.notebook), **known, **run}


def origins(root: Path) -> dict[str, dict]:
    """The origin of every chapter by its page."""
    return {f"book/{chapter.name}": origin(chapter) for chapter in notebooks.chapters(root)}


def facts(known: dict, cell: int | None) -> Iterator[tuple[str, str]]:
    """Title and HTML of each line below a figure."""
    place = f", code cell {cell}" if cell else ""
    yield "Notebook", f"{known['chapter']}.ipynb{place}, commit <code>{escape(known['page'])}</code>"
    run = [f"{key} {known[key]}" for key in ("profile", "seed") if key in known]
    if "commit" in known:
        run += [str(known["device"]), f"{known['seconds']:g} s for the whole chapter"]
        yield "Run", f"{escape(', '.join(run))}, code at commit <code>{escape(known['commit'])}</code>"
        versions = [f"{name} {known[name]}" for name in VERSIONS if name in known]
        yield "Versions", escape(", ".join([f"Python {known['python']}", *versions]))
    else:
        yield "Run", escape(", ".join([*run, "device, versions and time were not recorded"]))
    yield "Again", f"<code>make chapter C={escape(known['chapter'])}</code>"


def details(lines: Iterable[tuple[str, str]]) -> str:
    """The closed box below a figure, from titles and HTML."""
    inside = "".join(f"<div><dt>{title}</dt><dd>{text}</dd></div>" for title, text in lines)
    return f'<details class="provenance"><summary>Provenance</summary><dl>{inside}</dl></details>'


def cell_number(node: nodes.Node) -> int | None:
    """The number of the code cell that shows a figure, or None for one of the text."""
    while node := node.parent:
        if isinstance(node, nodes.Element) and node.get("nb_element") == "cell_code":
            return node.get("exec_count")
    return None


def mark_figures(app: Sphinx, document: nodes.document) -> None:
    if known := app.env.symlib_origins.get(app.env.docname):  # type: ignore[attr-defined]
        for figure in list(document.findall(nodes.figure)):
            below = nodes.raw("", details(facts(known, cell_number(figure))), format="html")
            figure.parent.insert(figure.parent.index(figure) + 1, below)


def fill_runs(app: Sphinx, docname: str, source: list[str]) -> None:
    """Device and commit of each row of the scoreboard."""
    if docname == SCOREBOARD:
        known = app.env.symlib_origins  # type: ignore[attr-defined]
        source[0] = RUN.sub(lambda m: run_html(known[f"book/{m[1]}"]), source[0])


def run_html(known: dict) -> str:
    """Device, where it was recorded, and commit."""
    device = f"· {escape(known['device'])} " if "device" in known else ""
    return f"{device}· <code>{escape(known['page'])}</code>"


def outdated(app: Sphinx, env: object, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The pages whose origin changed since they were read; the scoreboard shows all origins."""
    now, before = origins(Path(app.srcdir)), getattr(env, "symlib_origins", {})
    env.symlib_origins = now  # type: ignore[attr-defined]
    pages = [page for page in now if now[page] != before.get(page)]
    return [page for page in [*pages, SCOREBOARD] if page in app.project.docnames]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", mark_figures)
    app.connect("source-read", fill_runs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
