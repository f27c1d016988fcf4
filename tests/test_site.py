"""The built site in a real browser: offline, quiet, typeset, readable at every width and in both schemes."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.browser import DESKTOP, HEAVIEST, MOST_SHIFT, PHONE, Quiet, needs_browser, page_problems, serve
from tools import book, notebooks
from tools.notebooks import ROOT

PAGES = [f"{file.removesuffix('.ipynb')}.html" for _, file in notebooks.toc_files(ROOT)] + ["search.html"]

pytestmark = needs_browser

SEARCH_BOXES = """() => [...document.querySelectorAll(
    "input[type=search], .search-button-field, .search-button__button")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 0 && !e.closest("dialog"))
    .map((e) => e.outerHTML.slice(0, 160))"""


def describe_page(url: str) -> str:
    return url.removesuffix(".html").removeprefix("book/")


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("name", PAGES, ids=describe_page)
def test_page_is_sound(address, visit, name, width, scheme):
    page, seen = visit(f"{address}/{name}", width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page_problems(page, seen) == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_there_is_one_search(address, visit, width):
    page, _ = visit(f"{address}/book/index.html", width=width)
    assert len(page.evaluate(SEARCH_BOXES)) == 1


def test_the_keyboard_reaches_the_content_and_the_search(address, visit):
    page, _ = visit(f"{address}/book/index.html")
    page.keyboard.press("Tab")
    assert "Skip to main content" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Control+k")
    page.keyboard.type("symmetry")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html*")
    page.wait_for_selector("#search-results li")


class InTwoParts(Quiet):
    """The site over a slow line: a page halts after seven rows of its tables.

    With `?bare` it lacks what makes the browser wait for the first table.
    """

    def copyfile(self, source, outputfile):
        data = source.read()
        if "?bare" in self.path:
            data = re.sub(rb'<link rel="expect"[^>]*>', lambda link: b" " * len(link[0]), data)
        rows = [row.end() for row in re.finditer(b"</tr>", data)]
        cut = rows[6] if rows else len(data)
        outputfile.write(data[:cut])
        outputfile.flush()
        time.sleep(3 * (cut < len(data)))
        outputfile.write(data[cut:])


def test_a_table_keeps_its_columns_while_the_page_comes_in(visit):
    for address in serve(book.build(ROOT).parent, InTwoParts):
        shifts = [
            visit(f"{address}/book/appendix/notation.html{query}")[0].evaluate("shift") for query in ("", "?bare")
        ]
        assert shifts[0] < MOST_SHIFT < shifts[1]


def test_a_page_needs_no_scripts_and_no_server(address, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((book.build(ROOT).parent / "book" / "appendix" / "notation.html").as_uri())
    formulas = page.locator("article mjx-container")
    assert formulas.count() > 10
    assert all(formula.bounding_box()["width"] > 2 for formula in formulas.all()[:10])
    assert page.locator("article .math").count() == formulas.count()
    families = page.evaluate("[...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family)")
    assert any(family.startswith("MJX") for family in families)
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--pst-color-text-base')")
    context.close()


# --- each check rejects its mutant -------------------------------------------------------------------------

SOUND = """<!doctype html><html lang="en">
<head><title>A page</title><link rel="icon" href="data:,"></head><body><main><h1>A page</h1>"""
MUTANTS = {
    "off-site request": "<script src='https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-svg.js'></script>",
    "console": "<script>undefinedName()</script>",
    "missing file": "<script src='nowhere.js'></script>",
    "mathematics not typeset": "<p class='math'>\\(x^2\\)</p>",
    "stray TeX": "<article><p>$$P = \\mathsf T$$</p></article>",
    "image without": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' alt='../_images/a.png'>",
    "px too wide": "<p style='width: 2000px'>wide</p>",
    "image-alt": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
    "heading-order": "<h3>Two levels down</h3>",
    "heading skips a level": "<h2>A</h2><h4>B</h4>",
    "h1 not once and first": "<h1>A second</h1>",
    "too heavy": f"<script>/*{'x' * HEAVIEST}*/</script>",
    "layout shift": """<div id='late'></div><p style='height: 400px'>text</p>
        <script>onload = () => setTimeout(() => { late.style.height = '300px'; }, 50)</script>""",
    "moves": "<p style='transition: color 1s'>text</p>",
    "not reached by keyboard": "<div role='button' onclick='0'>go</div>",
    "scrollable-region-focusable": "<div style='overflow: auto; height: 2em'>1<br>2<br>3<br>4<br>5<br>6<br>7</div>",
    "color-contrast": "<p style='color: #bbb; background: #fff'>pale</p>",
}


@pytest.fixture(scope="module")
def mutants(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mutants")
    for number, body in enumerate(["<p>Sound</p>", *MUTANTS.values()]):
        (folder / f"{number}.html").write_text(f"{SOUND}{body}</main></body></html>")
    yield from serve(folder)


def test_a_sound_page_passes(mutants, visit):
    assert page_problems(*visit(f"{mutants}/0.html")) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_page_is_rejected(mutants, visit, name):
    number = 1 + list(MUTANTS).index(name)
    assert name in "\n".join(page_problems(*visit(f"{mutants}/{number}.html")))
