"""A real browser for the tests of the built site, and what is wrong with a page that it shows.

Every off-site request is refused and recorded. A test file asks for the fixtures `address` (the built site),
`browser` and `visit`, and says `pytestmark = needs_browser`: without Chromium its tests are skipped, or fail (CI=true).
"""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools import book
from tools.browser import find
from tools.notebooks import ROOT

CHROMIUM = find()
PHONE, DESKTOP = 390, 1300
TIMEOUT = 15_000  # milliseconds: no wait is unbounded
HEAVIEST = 1_500_000  # bytes of a page with all it loads, uncompressed
MOST_SHIFT = 0.02  # cumulative layout shift

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


def serve(folder: Path, kind: type[Quiet] = Quiet) -> Iterator[str]:
    handler = functools.partial(kind, directory=str(folder))
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
        context.add_init_script(COUNT_SHIFTS)
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
        page.evaluate(SETTLED)
        return page, seen

    yield open_page
    for context in contexts:
        context.close()


# How far the page has moved under its reader's eyes: the sum of what the browser reports.
COUNT_SHIFTS = """window.shift = 0;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });"""
SETTLED = """() => document.fonts.ready.then(() => new Promise((done) => setTimeout(
    () => requestAnimationFrame(() => requestAnimationFrame(done)), 100)))"""
WEIGHT = """() => performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource"))
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""
MOVING = """() => [...document.querySelectorAll("*")].filter((e) => {
    const style = getComputedStyle(e);
    return style.animationName !== "none" || /[1-9]/.test(style.transitionDuration);
}).slice(0, 3).map((e) => e.outerHTML.slice(0, 120))"""
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
    .filter((e) => e.checkVisibility())
    .map((e) => [Number(e.localName[1]), e.textContent.slice(0, 60)])"""
UNREACHABLE = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [onclick], [role=button], [role=slider], [role=tab]")]
    .filter((e) => e.tabIndex < 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }))
    .map((e) => e.outerHTML.slice(0, 120))"""
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
    .filter((i) => (i.complete ? !i.naturalWidth : i.loading !== "lazy")
        || !i.alt || /[/\\\\]|\\.(png|svg|jpg)/.test(i.alt))
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


def weight_problems(page) -> list[str]:
    weight = page.evaluate(WEIGHT)
    return [f"too heavy: {weight} bytes, at most {HEAVIEST}"] if weight > HEAVIEST else []


def motion_problems(page) -> list[str]:
    """What shifts while the page loads, and what moves although the reader asked for reduced motion."""
    shift = page.evaluate("shift")
    shifts = [f"layout shift: {shift:.3f}, at most {MOST_SHIFT}"] if shift > MOST_SHIFT else []
    return shifts + [f"moves: {tag}" for tag in page.evaluate(MOVING)]


def heading_problems(page) -> list[str]:
    """Other than one h1, first, and no level skipped on the way down."""
    headings = page.evaluate(HEADINGS)
    levels = [level for level, _ in headings]
    problems = [] if levels[:1] == [1] and levels.count(1) == 1 else [f"h1 not once and first: {levels}"]
    steps = zip(levels, headings[1:], strict=False)
    return problems + [f"heading skips a level: {text}" for before, (level, text) in steps if level > before + 1]


def keyboard_problems(page) -> list[str]:
    return [f"not reached by keyboard: {tag}" for tag in page.evaluate(UNREACHABLE)]


def axe_problems(page) -> list[str]:
    """Violations of WCAG 2 A and AA, of any impact, and of the order of headings."""
    from axe_playwright_python.sync_playwright import Axe

    rules = {"heading-order": {"enabled": True}}
    options = {"runOnly": ["wcag2a", "wcag2aa"], "rules": rules, "resultTypes": ["violations"]}
    bad = Axe().run(page, options=options).response["violations"]
    return [f"{v['id']}: {n['html'][:160]} {n['failureSummary'][:200]}" for v in bad for n in v["nodes"][:3]]


def page_problems(page, seen: Seen) -> list[str]:
    """All of the above."""
    checks = (overflow_problems, weight_problems, motion_problems, heading_problems, keyboard_problems, axe_problems)
    return loading_problems(page, seen) + [problem for check in checks for problem in check(page)]
