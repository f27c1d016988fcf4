"""The built site in a real browser: offline, quiet, typeset, readable at every width and in both schemes."""

from collections.abc import Iterator

import pytest

from tests.browser import (
    DESKTOP,
    PHONE,
    axe_problems,
    loading_problems,
    needs_browser,
    overflow_problems,
    serve,
)
from tools import notebooks
from tools.notebooks import ROOT

PAGES = [f"{file.removesuffix('.ipynb')}.html" for _, file in notebooks.toc_files(ROOT)] + ["search.html"]

pytestmark = needs_browser

SEARCH_BOXES = """() => [...document.querySelectorAll(
    "input[type=search], .search-button-field, .search-button__button")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 0 && !e.closest("dialog"))
    .map((e) => e.outerHTML.slice(0, 160))"""


def describe_page(url: str) -> str:
    return url.removesuffix(".html").removeprefix("book/")


@pytest.mark.parametrize("name", PAGES, ids=describe_page)
def test_page_loads_offline_and_is_typeset(address, visit, name):
    assert loading_problems(*visit(f"{address}/{name}")) == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", PAGES, ids=describe_page)
def test_page_does_not_overflow(address, visit, name, width):
    page, _ = visit(f"{address}/{name}", width=width)
    assert overflow_problems(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES, ids=describe_page)
def test_page_is_accessible(address, visit, name, scheme):
    page, _ = visit(f"{address}/{name}", scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert axe_problems(page) == []


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


# --- each check rejects its mutant -------------------------------------------------------------------------

SOUND = """<!doctype html><html lang="en">
<head><title>A page</title><link rel="icon" href="data:,"></head><body><main>"""
MUTANTS = {
    "off-site request": "<script src='https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-svg.js'></script>",
    "console": "<script>undefinedName()</script>",
    "missing file": "<script src='nowhere.js'></script>",
    "mathematics not typeset": "<p class='math'>\\(x^2\\)</p>",
    "stray TeX": "<article><p>$$P = \\mathsf T$$</p></article>",
    "image without": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' alt='../_images/a.png'>",
    "px too wide": "<p style='width: 2000px'>wide</p>",
    "image-alt": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
    "color-contrast": "<p style='color: #bbb; background: #fff'>pale</p>",
}


@pytest.fixture(scope="module")
def mutants(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mutants")
    for number, body in enumerate(["<h1>Sound</h1>", *MUTANTS.values()]):
        (folder / f"{number}.html").write_text(f"{SOUND}{body}</main></body></html>")
    yield from serve(folder)


def all_problems(page, seen) -> str:
    return "\n".join(loading_problems(page, seen) + overflow_problems(page) + axe_problems(page))


def test_a_sound_page_passes(mutants, visit):
    assert all_problems(*visit(f"{mutants}/0.html")) == ""


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_page_is_rejected(mutants, visit, name):
    number = 1 + list(MUTANTS).index(name)
    assert name in all_problems(*visit(f"{mutants}/{number}.html"))
