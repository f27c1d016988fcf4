"""Sphinx extension: what the pages of the book say about the book itself, from `tools.contents`.

Directives for the home page and the part pages (`hero`, `book-numbers`, `book-parts`, `book-map`,
`chapter-cards`, `cite-box`), and under the title of each chapter a bar with the way to run it.
"""

import re
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import quote, urlencode

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import copyfile, ensuredir, relative_uri

from tools import book_map, contents, provenance, publish
from tools.contents import Entry, Part

HERO = Path("book", "_static", "hero.svg")
NUMBERS = {
    "proved": "statements proved by machine",
    "refuted": "false statements refuted by a witness",
    "reproduced": "claims of papers reproduced",
    "partly": "reproduced in part",
    "not reproduced": "not reproduced",
    "ours": "measurements and controls of our own",
}


class Block(SphinxDirective):
    """A directive that stands for a piece of HTML about the whole book; its page is read again when that changes."""

    def html(self, root: Path) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        chapters = [path for e in contents.entries(root) for path in (e.chapter.notebook, e.chapter.source)]
        pages = [root / f"{part.docname}.md" for part in contents.parts(root)]
        for path in [*chapters, *pages, root / contents.TABLE, root / HERO]:
            self.env.note_dependency(str(path))
        return [nodes.raw("", self.html(root), format="html")]

    def link(self, docname: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, docname)


class Hero(Block):
    """The figure of the home page, inline so that it takes the colours of the theme."""

    def html(self, root: Path) -> str:
        drawing = (root / HERO).read_text(encoding="utf-8") if (root / HERO).is_file() else ""
        box = provenance.details(
            [
                ("Picture", f"{HERO}, commit <code>{escape(provenance.commit(root / HERO))}</code>"),
                ("Run", "fixed starts, cpu, versions of requirements.txt: a test draws it again and compares"),
                ("Again", "<code>python -m tools.hero</code>"),
            ]
        )
        return f'<div class="home-hero">{re.sub(r"<[?!][^>]*>", "", drawing)}</div>{box if drawing else ""}'


class BookNumbers(Block):
    """How many proofs and claims of each verdict, each number a link to the rows that it counts."""

    def html(self, root: Path) -> str:
        entries = contents.entries(root)
        return numbers_html(entries, self.link("book/appendix/scoreboard"))


class BookParts(Block):
    """Every part: its question and its chapters."""

    def html(self, root: Path) -> str:
        return f'<div class="book-parts">{"".join(part_html(p, self.link) for p in contents.parts(root))}</div>'


class BookMap(Block):
    """The map of the book."""

    def html(self, root: Path) -> str:
        return book_map.drawing(contents.parts(root), book_map.read_needs(root), self.link)


class ChapterCards(Block):
    """A card for each chapter of the part whose page this is."""

    def html(self, root: Path) -> str:
        entries = next(p.entries for p in contents.parts(root) if p.docname == self.env.docname)
        return f'<div class="chapter-cards">{"".join(card_html(e, self.link) for e in entries)}</div>'


class CiteBox(SphinxDirective):
    """How to cite the book, as BibTeX, made from CITATION.cff."""

    def run(self) -> list[nodes.Node]:
        text = publish.bibtex(publish.citation(Path(self.env.srcdir)), publish.address(self.config))
        return [nodes.literal_block(text, text, language="bibtex")]


def numbers_html(entries: tuple[Entry, ...], scoreboard: str) -> str:
    """The strip of numbers of the home page."""
    verdicts = sum((e.verdicts for e in entries), Counter[str]())

    def item(verdict: str, says: str) -> str:
        address = f"{scoreboard}?{urlencode({'verdict': verdict})}"
        mark = f'<span class="verdict {verdict.replace(" ", "-")}"></span>'
        return f'<li><a href="{address}"><strong>{verdicts[verdict]}</strong> <span>{mark}{says}</span></a></li>'

    size = f"{len(entries)} chapters, {sum(e.figures for e in entries)} figures, {verdicts.total()} statements"
    items = "".join(item(*pair) for pair in NUMBERS.items())
    return f'<ul class="book-numbers">{items}</ul><p class="facts">{size}</p>'


def picture_html(entry: Entry) -> str:
    picture = entry.thumbnail
    return f'<img src="{picture.uri}" alt="{escape(picture.alt)}" loading="lazy">' if picture else ""


def card_html(entry: Entry, link: book_map.LINK) -> str:
    """A chapter on its part page; the whole card leads to the chapter."""
    return (
        f'<div class="chapter-card"><div class="thumbnail">{picture_html(entry)}</div>'
        f'<p class="chapter-title"><a href="{link(entry.docname)}">{escape(entry.title)}</a></p>'
        f"<p>{escape(entry.shows)}</p><p class='facts'>{entry.facts}</p></div>"
    )


def part_html(part: Part, link: book_map.LINK) -> str:
    """A part on the home page: its name, its question and its chapters."""
    chapters = "".join(f'<li><a href="{link(e.docname)}">{escape(e.title)}</a></li>' for e in part.entries)
    return (
        f'<div class="book-part"><div class="thumbnail">{picture_html(part.entries[0])}</div>'
        f'<p class="part-name">{escape(part.caption)}</p>'
        f'<p class="chapter-title"><a href="{link(part.docname)}">{escape(part.question)}</a></p>'
        f"<ul>{chapters}</ul></div>"
    )


def commands(name: str, repository: str) -> tuple[str, str]:
    """How to run the chapter in a copy of the project, and how to install what its notebook needs elsewhere."""
    inside = f'make run C={name}\nmake run C={name} PROFILE=full P="seed=1"'
    package = f'"symlib[data] @ git+{repository}"' if repository else '".[data]"'
    return inside, f"pip install {package}"


def shell(text: str) -> str:
    """Commands in a box that gets a copy button."""
    return f'<div class="highlight-shell notranslate"><div class="highlight"><pre>{escape(text)}</pre></div></div>'


def bar(entry: Entry, root: str, repository: str, launch: list[tuple[str, str]]) -> str:
    """What stands under the title of a chapter; `root` leads from its page to the top of the site."""
    inside, install = commands(entry.chapter.name, repository)
    source = f"{root}_sources/{quote(entry.docname)}"
    online = " or ".join(f'<a href="{escape(url)}">{name}</a>' for name, url in launch)
    place = "" if repository else ", in a copy of the project,"
    return (
        f'<div class="chapter-bar"><p class="facts">{entry.facts}</p>'
        f'<details class="run-box"><summary>Run this chapter</summary>'
        f"<p>In a copy of the project; <code>quick</code> takes about a minute, <code>full</code> longer:</p>"
        f"{shell(inside)}"
        f'<p>By itself: download the <a href="{source}.ipynb" download>executed notebook</a> or its '
        f'<a href="{source}.md" download>source</a>, and install its package{place} with</p>{shell(install)}'
        + (f"<p>In the browser, after the same installation: {online}.</p>" if online else "")
        + "</details></div>"
    )


def add_bar(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    for entry in contents.entries(Path(app.srcdir)):
        if entry.docname == pagename and doctree is not None:
            repository, branch = publish.repository(app.config)
            links = publish.launch_links(repository, branch, f"{pagename}.ipynb")
            root = relative_uri(app.builder.get_target_uri(pagename), "") or "./"
            head, title, rest = context["body"].partition("</h1>")
            context["body"] = head + title + bar(entry, root, repository, links) + rest


def copy_sources(app: Sphinx, exception: Exception | None) -> None:
    """The source of each chapter beside its notebook, to be downloaded."""
    if exception is None and app.builder.name == "html":
        for entry in contents.entries(Path(app.srcdir)):
            if entry.chapter.source.is_file():
                target = Path(app.outdir, "_sources", f"{entry.docname}.md")
                ensuredir(target.parent)
                copyfile(entry.chapter.source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    directives = {
        "hero": Hero, "book-numbers": BookNumbers, "book-parts": BookParts, "book-map": BookMap,
        "chapter-cards": ChapterCards, "cite-box": CiteBox,
    }  # fmt: skip
    for name, directive in directives.items():
        app.add_directive(name, directive)
    app.connect("html-page-context", add_bar)
    app.connect("build-finished", copy_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
