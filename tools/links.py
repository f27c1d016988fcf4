"""The links of the built site: those inside it, and those that leave it.

`python -m tools.links`, or `make links`, asks for every address that leaves the site; the links inside are
checked by the tests and need no network.
"""

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from tools import book
from tools.notebooks import ROOT, ToolError

SECONDS = 20
# Some publishers answer a program with 403 and a browser with the page: such a link is there.
REFUSED = (401, 403, 405, 429)
AGENT = {"User-Agent": "Mozilla/5.0 (link check of an open textbook)"}


@dataclass
class Page(HTMLParser):
    """What a page points to and the names in it that can be pointed at."""

    links: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value for key, value in attrs if value}
        self.names |= {values[key] for key in ("id", "name") if key in values}
        if values.get("rel") not in ("canonical", "preconnect"):
            self.links |= {values[key] for key in ("href", "src") if key in values}


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def pages(site: Path) -> dict[Path, Page]:
    """Every HTML page of the site by its path; the theme keeps templates among its static files."""
    files = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts)
    return {path.resolve(): read(path) for path in files}


def internal_problems(site: Path) -> list[str]:
    """Every link inside the site that leads to no file or to no place in its page."""
    known, problems = pages(site), []
    for path, page in known.items():
        for link in sorted(page.links):
            address, fragment = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            file = unquote(urlsplit(address).path)
            target = (path.parent / file).resolve() if file else path
            name = f"{path.relative_to(site.resolve())}: {link}"
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                problems.append(f"{name}: no such file")
            elif not target.is_relative_to(site.resolve()):
                problems.append(f"{name}: outside the site")
            elif fragment and target in known and unquote(fragment) not in known[target].names:
                problems.append(f"{name}: no such place in the page")
    return problems


def external(site: Path) -> dict[str, list[str]]:
    """Every address that leaves the site, with the pages that name it."""
    found: dict[str, list[str]] = {}
    for path, page in pages(site).items():
        for link in page.links:
            if urlsplit(link).scheme in ("http", "https"):
                found.setdefault(urldefrag(link)[0], []).append(str(path.relative_to(site.resolve())))
    return dict(sorted(found.items()))


def ask(address: str) -> str | None:
    """Why an address does not answer, or None."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=AGENT), timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in REFUSED else f"answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"does not answer: {getattr(error, 'reason', error)}"


def external_problems(addresses: Iterable[str]) -> dict[str, str]:
    """The addresses that do not answer, and why."""
    addresses = list(addresses)
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = zip(addresses, pool.map(ask, addresses), strict=True)
        return {address: problem for address, problem in answers if problem}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.links", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        site = book.build(args.root.resolve()).parent
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    inside, outside = internal_problems(site), external(site)
    problems = external_problems(outside)
    for line in inside:
        print(line)
    for address, problem in problems.items():
        print(f"{address} {problem} (in {', '.join(outside[address])})")
    print(f"{len(inside)} broken links inside; {len(problems)} of {len(outside)} addresses outside do not answer")
    return 1 if inside or problems else 0


if __name__ == "__main__":
    sys.exit(main())
