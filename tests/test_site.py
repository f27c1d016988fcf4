"""The built site in a real browser: offline, quiet, typeset, readable at every width and in both schemes.

Every off-site request is refused and recorded. Without Chromium these tests are skipped, or fail (CI=true).
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools import book, notebooks
from tools.notebooks import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = [f"{file.removesuffix('.ipynb')}.html" for _, file in notebooks.toc_files(ROOT)] + ["search.html"]
PHONE, DESKTOP = 390, 1300
TIMEOUT = 15_000  # milliseconds: no wait is unbounded

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="NO BROWSER: Chromium is not installed, so nothing about the built site was checked",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The built site, served from this machine."""
    yield from serve(book.build(ROOT).parent)


def serve(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "no Chromium on a machine where CI=true: install it, or the site goes unchecked"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """What happened while a page was open."""

    offsite: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser):
    """Open a page with the network off; gives the page and what was seen while it loaded."""
    contexts = []

    def open_page(url: str, width: int = DESKTOP, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(NO_TRANSITIONS)
        contexts.append(context)
        page, seen, here = context.new_page(), Seen(), url.split("/", 3)[2]

        def route(route):
            if route.request.url.split("/", 3)[2] == here or route.request.url.startswith("data:"):
                return route.continue_()
            seen.offsite.append(route.request.url)
            return route.abort()

        context.route("**/*", route)
        page.on("console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("response", lambda r: seen.missing.append(r.url) if r.status >= 400 else None)
        page.goto(url, wait_until="load")
        page.evaluate(MATH_READY)
        return page, seen

    yield open_page
    for context in contexts:
        context.close()


# A colour half-way through a transition is no colour of the page.
NO_TRANSITIONS = """addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style");
    style.textContent = "* { transition: none !important; animation: none !important; }";
    document.head.append(style);
})"""
# MathJax may be refused or absent: never wait for it longer than five seconds.
MATH_READY = """() => Promise.race([
    window.MathJax && MathJax.startup && MathJax.startup.promise,
    new Promise((done) => setTimeout(done, 5000)),
]).then(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50))))"""
RAW_MATH = """() => [...document.querySelectorAll(".math")]
    .filter((e) => !e.querySelector("mjx-container") || e.querySelector("mjx-merror"))
    .map((e) => e.textContent.slice(0, 80))"""
# TeX that Markdown did not take for mathematics: a command in the running text.
STRAY_TEX = r"""() => {
    const main = document.querySelector("article, main").cloneNode(true);
    main.querySelectorAll("pre, code, script, .math, mjx-container").forEach((e) => e.remove());
    return (main.textContent.match(/.{0,30}\\[a-zA-Z]+.{0,30}/g) || []).slice(0, 3);
}"""
OVERFLOW = """() => {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (wide <= 0) return [];
    const out = [...document.querySelectorAll("main *")]
        .filter((e) => e.getBoundingClientRect().right > innerWidth);
    return [`${wide} px too wide`, ...out.slice(0, 3).map((e) => e.outerHTML.slice(0, 120))];
}"""
BAD_IMAGES = """() => [...document.images]
    .filter((i) => !i.complete || !i.naturalWidth || !i.alt || /[/\\\\]|\\.(png|svg|jpg)/.test(i.alt))
    .map((i) => i.outerHTML.slice(0, 160))"""
SEARCH_BOXES = """() => [...document.querySelectorAll(
    "input[type=search], .search-button-field, .search-button__button")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 0 && !e.closest("dialog"))
    .map((e) => e.outerHTML.slice(0, 160))"""


def loading_problems(page, seen: Seen) -> list[str]:
    problems = [f"off-site request: {url}" for url in seen.offsite]
    problems += [f"console: {text}" for text in seen.errors]
    problems += [f"missing file: {url}" for url in seen.missing]
    problems += [f"mathematics not typeset: {text}" for text in page.evaluate(RAW_MATH)]
    problems += [f"stray TeX: {text}" for text in page.evaluate(STRAY_TEX)]
    return problems + [f"image without file or real alt: {tag}" for tag in page.evaluate(BAD_IMAGES)]


def overflow_problems(page) -> list[str]:
    return page.evaluate(OVERFLOW)


def axe_problems(page) -> list[str]:
    """Serious and critical violations of WCAG 2 A and AA."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": ["wcag2a", "wcag2aa"], "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {n['html'][:160]} {n['failureSummary'][:200]}" for v in bad for n in v["nodes"][:3]]


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


def test_the_scoreboard_sorts_and_filters_from_the_keyboard(address, visit):
    page, _ = visit(f"{address}/book/appendix/scoreboard.html")
    rows = page.locator("table.sortable tbody tr")
    total = rows.count()
    kinds = page.locator(".table-filter select[data-key=kind]")
    kinds.select_option("proof")
    proofs = page.locator("table.sortable tbody tr:visible").count()
    assert 0 < proofs == page.locator("tr[data-kind=proof]").count() <= total
    assert page.locator(".table-filter output").inner_text() == f"{proofs} of {total} rows"
    kinds.select_option("")
    head = page.locator("table.sortable th").first
    for order in ("ascending", "descending"):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        texts = rows.locator("td:first-child").all_text_contents()
        assert texts == sorted_by_browser(page, texts, order)


def sorted_by_browser(page, texts: list[str], order: str) -> list[str]:
    sort = "(t) => t.map((x) => x.trim()).sort((a, b) => a.localeCompare(b, 'en', {numeric: true}))"
    ascending = page.evaluate(sort, texts)
    return ascending if order == "ascending" else ascending[::-1]


def test_every_row_of_the_scoreboard_leads_to_its_card(address, visit):
    page, _ = visit(f"{address}/book/appendix/scoreboard.html")
    links = page.locator("table.sortable a").evaluate_all("links => links.map((a) => a.href)")
    for url in links:
        page.goto(url)
        assert page.locator(f"[id='{url.partition('#')[2]}'].claim-card").count() == 1, url


def test_the_scoreboard_stands_without_scripts(address, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/book/appendix/scoreboard.html")
    rows = page.locator("table.sortable tbody tr")
    assert rows.count() == page.locator("table.sortable tbody tr:visible").count() > 0
    context.close()


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
