"""A real browser for the tests of the built site, and what is wrong with a page that it shows.

Every off-site request is refused and recorded. A test file asks for the fixtures `address` (the built site),
`browser` and `visit`, and says `pytestmark = needs_browser`: without Chromium its tests are skipped, or fail (CI=true).
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

from tools import book
from tools.notebooks import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESKTOP = 390, 1300
TIMEOUT = 15_000  # milliseconds: no wait is unbounded

needs_browser = pytest.mark.skipif(
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
