"""Sphinx extension: a badge in the box of every theorem that says how it was checked, and for what.

`book/theorems.yml` says which cards check which theorem. How and within which scope is read from the records of the
cards, and whether a proof stands in the text from the chapter: a badge claims what its cards claim.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from symlib.cards import rich
from tools import notebooks
from tools.notebooks import Chapter, ToolError
from tools.rows import Row, read_rows

FILE = Path("book", "theorems.yml")
BOX = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{prf:(?:theorem|proposition|lemma|corollary)\}[ \t]*(?P<title>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$(?P<proof>\s*^[`:]{3,}\{prf:proof\})?",
    re.MULTILINE | re.DOTALL,
)
LABEL = re.compile(r"^:label:[ \t]*(\S+)", re.MULTILINE)
PARTS = re.compile(r"Parts? (\d)(?:(?: to (\d))|(?: and (\d)))?")
METHODS = {
    "symbolic": "proved symbolically",
    "all sizes": "proved symbolically for all sizes",
    "exhaustive": "checked exhaustively",
    "infinitesimal": "proved infinitesimally",
    "witness": "shown by a witness",
    "measured": "checked numerically",
}


@dataclass(frozen=True)
class Check:
    """How much of a theorem is checked, in which way, by which cards."""

    covers: str
    method: str
    cards: tuple[Row, ...]


@dataclass(frozen=True)
class Theorem:
    """A labelled statement of a chapter: its number of parts, whether a proof follows it, and what checks it."""

    chapter: Chapter
    label: str
    title: str
    parts: int
    proved: bool
    checks: tuple[Check, ...]

    @property
    def untouched(self) -> list[int]:
        """The parts that no card checks."""
        seen = {n for check in self.checks for n in numbers(check.covers)}
        return [n for n in range(1, self.parts + 1) if n not in seen]


def numbers(covers: str) -> list[int]:
    """The parts that "Part 2, ..." or "Parts 1 to 3" speak of.  `[]` when it names none."""
    if not (match := PARTS.match(covers)):
        return []
    first, last, other = (int(g) if g else 0 for g in match.groups())
    return [first, other] if other else list(range(first, max(first, last) + 1))


def boxes(chapter: Chapter) -> Iterator[tuple[str, str, int, bool]]:
    """Label, title, number of parts and whether a proof follows, of every theorem of a chapter."""
    for cell in nbformat.read(chapter.notebook, as_version=4).cells:
        for match in BOX.finditer(cell.source) if cell.cell_type == "markdown" else ():
            label = LABEL.search(match["body"])
            items = re.findall(r"^(\d+)\. ", match["body"], re.MULTILINE)
            yield label[1] if label else "", match["title"].strip(), len(items), bool(match["proof"])


def checks(label: str, parts: int, declared: dict[str, list[str]], cards: dict[str, Row]) -> Iterator[Check]:
    """The declared checks by method. Raises ToolError for a part or a card that does not exist."""
    for covers, anchors in declared.items():
        if (named := numbers(covers)) and max(named) > parts:
            raise ToolError(f"{FILE}: {label} has {parts} parts, '{covers}' names another")
        if unknown := [anchor for anchor in anchors if anchor not in cards]:
            raise ToolError(f"{FILE}: {label}: its chapter has no card {', '.join(unknown)}")
        found = [cards[anchor] for anchor in anchors]
        if undecided := [row.anchor for row in found if row.verdict == "open"]:
            raise ToolError(f"{FILE}: {label}: an open proof checks nothing: {', '.join(undecided)}")
        for method in dict.fromkeys(row.check for row in found):
            yield Check(covers, method, tuple(row for row in found if row.check == method))


def theorems(root: Path) -> list[Theorem]:
    """Every theorem in reading order. Raises ToolError where the chapters and book/theorems.yml disagree."""
    path = root / FILE
    declared = yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}
    rows, found = read_rows(root), []
    for chapter in notebooks.chapters(root):
        cards = {row.anchor: row for row in rows if row.chapter == chapter}
        for label, title, parts, proved in boxes(chapter):
            if not label:
                raise ToolError(f"{chapter.name}: the theorem '{title}' has no :label:")
            if label not in declared:
                raise ToolError(f"{FILE}: no row for {label} of {chapter.name}")
            checked = tuple(checks(label, parts, declared[label], cards))
            found.append(Theorem(chapter, label, title, parts, proved, checked))
    if surplus := declared.keys() - {theorem.label for theorem in found}:
        raise ToolError(f"{FILE}: no chapter has {', '.join(sorted(surplus))}")
    return found


def scope(row: Row) -> str:
    """For what a card holds: the scope of a proof, the statement of a claim."""
    return " ".join(row.record["scope" if row.record["kind"] == "proof" else "statement"].split())


def line(check: Check) -> str:
    """A check as HTML; each scope once, every card linked."""
    scopes: dict[str, list[Row]] = {}
    for row in check.cards:
        scopes.setdefault(scope(row), []).append(row)
    links = []
    for text, rows in scopes.items():
        first, *others = [f'<a href="#{row.anchor}">' for row in rows]
        more = "".join(f", {link}card {n}</a>" for n, link in enumerate(others, start=2))
        links.append(f"{first}{rich(text)}</a>{more}")
    method = f'<b class="{check.method.replace(" ", "-")}-check">{METHODS[check.method]}</b>'
    return f"{escape(check.covers)}: {method} ({'; '.join(links)})"


def badge(theorem: Theorem) -> str:
    """The badge as HTML: one line for each way in which the theorem, or some part of it, is known."""
    lines = ['<b class="text">Proved in the text</b>'] if theorem.proved else []
    lines += map(line, theorem.checks)
    if theorem.checks and theorem.untouched:
        parts = ("Parts " if len(theorem.untouched) > 1 else "Part ") + " and ".join(map(str, theorem.untouched))
        lines.append(f"{parts}: no card")
    if not theorem.checks:
        lines.append(
            "No card checks it" if theorem.proved else '<b class="stated">Stated</b>, neither proved nor checked here'
        )
    return '<ul class="badge-list">' + "".join(f"<li>{text}</li>" for text in lines) + "</ul>"


def read(app: Sphinx) -> None:
    try:
        found = theorems(Path(app.srcdir))
    except ToolError as error:
        raise ExtensionError(str(error)) from None
    app.env.symlib_theorems = {theorem.label: badge(theorem) for theorem in found}  # type: ignore[attr-defined]


def mark(app: Sphinx, document: nodes.document) -> None:
    """Put the badge into the box of each theorem."""
    badges = app.env.symlib_theorems  # type: ignore[attr-defined]
    for box in document.findall(nodes.Element):
        if (label := box.get("label")) in badges:
            box += nodes.raw("", badges[label], format="html")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", read)
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
