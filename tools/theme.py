"""Sphinx extension: mends what the theme writes, page by page, after the build.

A page loads only what it uses; its colour scheme, which the theme leaves open until its scripts have run, is light
until the first line of the page sets it; printed columns are marked, so that they scroll instead of wrapping;
tables are painted whole and figures have their place before they come.
"""

import re
from pathlib import Path

import pydata_sphinx_theme
from PIL import Image
from sphinx.application import Sphinx

from tools import icons
from tools.notebooks import write_atomic

STATIC = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
SHEET, FONT = Path("styles", "pydata-sphinx-theme.css"), Path("vendor", "fontawesome", "webfonts", "fa-solid-900.ttf")
SCRIPT = r'\s*<script\b[^>]*\bsrc="[^"]*\b(?:{})\.js[^"]*"[^>]*></script>'
ICON_SCRIPT = re.compile(SCRIPT.format("fontawesome"))
SEARCH_SCRIPTS = re.compile(SCRIPT.format("searchtools|language_data|searchindex"))
SET_LATE = 'dataset.theme = localStorage.getItem("theme") || "auto";'
SET_FIRST = (
    'dataset.theme = { light: "light", dark: "dark" }[document.documentElement.dataset.mode]'
    ' || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");'
)
PRINTED = re.compile(r'(<div class="output [^"]*"><div class="highlight"><pre)>(.*?)(?=</pre>)', re.DOTALL)
GAP = re.compile(r"\S {2,}\S")
READ = "read-before-painting"
PICTURE = re.compile(r'(<figure [^>]*>\s*)<img ([^>]*?src="([^"]+\.png)"[^>]*>)')


def loads_what_it_uses(page: str, is_search: bool) -> str:
    """The page without the script of all icons and, unless it searches, without the index."""
    page = ICON_SCRIPT.sub("", page)
    return page if is_search else SEARCH_SCRIPTS.sub("", page)


def sets_scheme_first(page: str) -> str:
    """The page in the reader's colours from its first paint on, and in light ones without scripts."""
    return page.replace('data-theme="auto"', 'data-theme="light"', 1).replace(SET_LATE, SET_FIRST)


def marks_columns(page: str) -> str:
    """The page with class `columns` on printed text where two lines or more are set in columns."""

    def mark(output: re.Match[str]) -> str:
        lines = re.sub(r"<[^>]*>", "", output[2]).splitlines()
        columns = sum(bool(GAP.search(line)) for line in lines) >= 2
        return f'{output[1]} class="columns">{output[2]}' if columns else output[0]

    return PRINTED.sub(mark, page)


def paints_whole_table(page: str) -> str:
    """The page, if it has a table, painted only once its first is there: a table read in part has other columns."""
    if "</table>" not in page or f'id="{READ}"' in page:
        return page
    page = page.replace("</title>", f'</title>\n<link rel="expect" href="#{READ}" blocking="render">', 1)
    return page.replace("</table>", f'</table><span id="{READ}"></span>', 1)


def keeps_place_of_figures(page: str, folder: Path) -> str:
    """The page, which lies in `folder`, with the size of every picture, in a box where it can scroll on a phone."""

    def box(found: re.Match[str]) -> str:
        with Image.open(folder / found[3]) as picture:
            width, height = picture.size
        size = f'width="{width}" height="{height}" style="--natural: {width}px"'
        return f'{found[1]}<div class="figure-scroll"><img {size} {found[2]}</div>'

    return PICTURE.sub(box, page)


def mend(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out, used = Path(app.outdir), set()
    for path in sorted(out.rglob("*.html")):
        page = path.read_text(encoding="utf-8")
        used |= icons.names(page)
        mended = loads_what_it_uses(page, path.name == "search.html")
        mended = paints_whole_table(marks_columns(sets_scheme_first(mended)))
        mended = keeps_place_of_figures(mended, path.parent)
        if mended != page:
            write_atomic(path, mended)
    sheet = (STATIC / SHEET).read_text(encoding="utf-8")
    write_atomic(out / "_static" / SHEET, icons.trim(sheet, STATIC / FONT, used))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", mend, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
