"""Print the whole book: `_build/symmetries.pdf`, from the built site, through headless Chromium.

`python -m tools.pdf`, or `make pdf`. The pages of the site stand one after the other in one HTML file, their
links turned into links inside it; Chromium prints that file. Nothing is built a second time.
"""

import argparse
import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag, urlsplit

import yaml

from tools import book, browser, notebooks
from tools.notebooks import ROOT, ToolError

DROPPED = ("script", "button", "select", "input")
ATTRIBUTE = re.compile(r"""(?<=\s)(id|for|aria-labelledby|aria-describedby|href|src|xlink:href)="([^"]*)\"""")
SIDE = "18mm"
FIT = """() => {
    const shrink = (box, inner) => {
        const ratio = box.clientWidth / inner.scrollWidth;
        if (ratio < 1) inner.style.fontSize = `${100 * ratio * 0.98}%`;
    };
    document.querySelectorAll("div.math").forEach((box) => shrink(box, box));
    document.querySelectorAll("table").forEach((table) => shrink(table.parentElement, table));
}"""
STYLE = f"""
@page {{ size: A4; margin: 18mm {SIDE} 20mm; }}
html {{ font-size: 10.5pt; }}
body {{ background: white; }}
.bd-main .bd-content {{ margin: 0 !important; }}
.bd-main .bd-content .bd-article-container {{ max-width: none !important; padding: 0; }}
.bd-main .bd-content .bd-article h1:first-of-type {{ display: block; margin-top: 0; }}
div.page {{ break-before: page; }}
article.bd-article {{ padding: 0 !important; }}
article.cover {{ padding-top: 45mm !important; }}
article.cover h1 {{ font-size: 30pt; line-height: 1.15; }}
article.contents {{ break-before: page; }}
article.contents ul {{ padding: 0; }}
article.contents li {{ list-style: none; margin: .15em 0; }}
article.contents a {{ text-decoration: none !important; color: inherit; }}
h1, h2, h3 {{ break-after: avoid; }}
div.cell_input, details {{ break-inside: avoid; }}
a.headerlink, .prev-next-footer, .chapter-bar details, .table-filter {{ display: none !important; }}
div.cell_output pre, div.cell_input pre {{ white-space: pre-wrap; max-height: none; overflow: visible; }}
div.math {{ overflow: visible; }}
table#scoreboard {{ font-size: 6.5pt !important; line-height: 1.3; }}
"""


class Article(HTMLParser):
    """One page's article with its names and links made those of the whole book.

    `pages` maps the path of every page inside the site to its name in the book.
    """

    def __init__(self, path: PurePosixPath, pages: dict[PurePosixPath, str]) -> None:
        super().__init__(convert_charrefs=False)
        self.path, self.pages = path, pages
        self.parts: list[str] = []
        self.inside = self.dropping = 0

    def attribute(self, match: re.Match) -> str:
        key, value = match[1], match[2]
        here = self.pages[self.path]
        if key in ("id", "for"):
            return f'{key}="{here}--{value}"'
        if key.startswith("aria-"):
            return f'{key}="{" ".join(f"{here}--{name}" for name in value.split())}"'
        if urlsplit(value).scheme:
            return match[0]
        address, fragment = urldefrag(html.unescape(value))
        target = normal(self.path.parent / urlsplit(address).path) if address else self.path
        if target in self.pages:
            name = self.pages[target] + (f"--{fragment}" if fragment else "")
            return f'{key}="#{html.escape(name)}"'
        return f'{key}="../html/{target}"' if key == "src" else ""  # a file of the site has no place on paper

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += tag == "article"
        self.dropping += tag in DROPPED and tag != "input"
        if self.inside and not self.dropping and tag not in DROPPED:
            text = ATTRIBUTE.sub(self.attribute, self.get_starttag_text() or "")
            self.parts.append(re.sub(r"url\(#", f"url(#{self.pages[self.path]}--", text))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.dropping -= tag in DROPPED and tag != "input"

    def handle_endtag(self, tag: str) -> None:
        if self.inside and not self.dropping:
            self.parts.append(f"</{tag}>")
        self.inside -= tag == "article"
        self.dropping -= tag in DROPPED and tag != "input"

    def emit(self, text: str) -> None:
        if self.inside and not self.dropping:
            self.parts.append(text)

    def handle_data(self, data: str) -> None:
        self.emit(data)

    def handle_entityref(self, name: str) -> None:
        self.emit(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.emit(f"&#{name};")


def normal(path: PurePosixPath) -> PurePosixPath:
    """The path without its `..`."""
    return PurePosixPath(os.path.normpath(path))


def pages(root: Path) -> dict[PurePosixPath, str]:
    """Path inside the site and name in the printed book of every page, in reading order."""
    files = [file.removesuffix(".ipynb") for _, file in notebooks.toc_files(root)]
    return {PurePosixPath(f"{file}.html"): file.removeprefix("book/").replace("/", "-") for file in files}


def article(site: Path, path: PurePosixPath, known: dict[PurePosixPath, str]) -> str:
    """The article of a page, ready for the printed book; ToolError when the page has none."""
    reader = Article(path, known)
    reader.feed((site / path).read_text(encoding="utf-8"))
    if not reader.parts:
        raise ToolError(f"{path}: has no article to print")
    return f'<div class="page" id="{known[path]}">' + "".join(reader.parts) + "</div>"


def title(site: Path, path: PurePosixPath) -> str:
    """The heading of a page as HTML, without its link to itself."""
    found = re.search(r"<h1>(.*?)(?:<a class=\"headerlink\".*?</a>)?</h1>", (site / path).read_text("utf-8"), re.DOTALL)
    if not found:
        raise ToolError(f"{path}: has no heading")
    return found[1]


def front(root: Path, site: Path) -> str:
    """Title page and table of contents."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    git = ["git", "log", "-1", "--format=%h, %cs"]
    commit = subprocess.run(git, cwd=root, capture_output=True, text=True).stdout.strip() or "unknown"
    lines, known = [], pages(root)
    last = ""
    for (part, _), (path, name) in zip(notebooks.toc_files(root), known.items(), strict=True):
        lines += [f"</ul><h2>{html.escape(part)}</h2><ul>"] * (part != last)
        lines.append(f'<li><a href="#{name}">{title(site, path)}</a></li>')
        last = part
    return (
        f'<article class="bd-article cover"><h1>{html.escape(config["title"])}</h1>'
        f"<p>Print edition of the executable book, commit {commit}. "
        "Text under CC BY 4.0, code under the MIT License.</p></article>"
        f'<article class="bd-article contents"><h1>Contents</h1><ul>{"".join(lines)}</ul></article>'
    )


def whole_book(root: Path, site: Path) -> str:
    """The book as one HTML page that stands in `_build/pdf`."""
    known = pages(root)
    first = (site / next(iter(known))).read_text(encoding="utf-8")
    sheets = re.findall(r'<link[^>]*href="(?:\.\./)*(_static/[^"?]*\.css)[^"]*"', first)
    links = "".join(f'<link rel="stylesheet" href="../html/{sheet}">' for sheet in dict.fromkeys(sheets))
    body = front(root, site) + "".join(article(site, path, known) for path in known)
    return (
        f'<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">'
        f"<title>Symmetries</title>{links}<style>{STYLE}</style></head>"
        f'<body><main class="bd-main"><div class="bd-content"><div class="bd-article-container">{body}'
        "</div></div></main></body></html>"
    )


def print_pdf(page: Path, target: Path) -> None:
    """Print an HTML file with Chromium, bookmarks and tags included; wide formulas and tables shrink to the text."""
    chromium = browser.find()
    if chromium is None:
        raise ToolError("no Chromium found (Debian: apt install chromium); it prints the book")
    from playwright.sync_api import sync_playwright

    footer = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with sync_playwright() as play:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = play.chromium.launch(executable_path=chromium, args=flags)
        sheet = opened.new_page(viewport={"width": 660, "height": 900})
        sheet.emulate_media(media="print", color_scheme="light")
        sheet.goto(page.as_uri(), wait_until="load")
        sheet.evaluate(FIT)
        sheet.pdf(
            path=partial, prefer_css_page_size=True, print_background=True, outline=True, tagged=True,
            display_header_footer=True, header_template="<span></span>", footer_template=footer,
        )  # fmt: skip
        opened.close()
    os.replace(partial, target)


def build(root: Path) -> Path:
    """Bring the site up to date, print it, and return the path of the PDF."""
    site, target = book.build(root).parent, root / "_build" / "symmetries.pdf"
    page = root / "_build" / "pdf" / "book.html"
    notebooks.write_atomic(page, whole_book(root, site))
    print_pdf(page, target)
    return target


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.pdf", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        path = build(args.root.resolve())
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The printed book is at {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
