"""The printed book: every page once, links inside it, nothing that does not fit a sheet of paper."""

import re
from collections import Counter
from pathlib import PurePosixPath

import pytest

from tests.browser import CHROMIUM, needs_browser
from tools import book, browser, pdf
from tools.notebooks import ROOT, ToolError

PAGE = """<html><body><nav id="menu">menu</nav><article class="bd-article"><h1>{title}</h1>
{body}</article><footer id="foot">foot</footer></body></html>"""
KNOWN = {PurePosixPath("book/index.html"): "index", PurePosixPath("book/a/one.html"): "a-one"}


def printed(tmp_path, body: str, page: str = "book/a/one.html") -> str:
    """The article of a page with that body, as it stands in the printed book."""
    for path in KNOWN:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(PAGE.format(title="T", body=body))
    return pdf.article(tmp_path, PurePosixPath(page), KNOWN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<p id="x">', '<p id="a-one--x">'),
        ('<a href="#x">', '<a href="#a-one--x">'),
        ('<a href="../index.html">', '<a href="#index">'),
        ('<a href="../index.html#map">', '<a href="#index--map">'),
        ('<a href="https://example.org/#x">', '<a href="https://example.org/#x">'),
        ('<img alt="x" src="../../_images/p.png">', '<img alt="x" src="../html/_images/p.png">'),
        ('<a class="d" href="../../_sources/one.ipynb">', '<a class="d" >'),
        ('<div aria-labelledby="p q">', '<div aria-labelledby="a-one--p a-one--q">'),
        ('<rect fill="url(#fade)"/>', '<rect fill="url(#a-one--fade)"/>'),
        ("<pre>&lt;a href=&quot;#x&quot;&gt; &#955;</pre>", "<pre>&lt;a href=&quot;#x&quot;&gt; &#955;</pre>"),
        ("<script>if (1 < 2) {}</script><p>on</p>", "<p>on</p>"),
        ("<button>copy</button><input type=range><p>on</p>", "<p>on</p>"),
    ],
)
def test_names_and_links_become_those_of_the_book(tmp_path, before, after):
    assert f"</h1>\n{after}" in printed(tmp_path, before)


def test_only_the_article_is_printed(tmp_path):
    text = printed(tmp_path, "<p>the text</p>")
    assert "the text" in text and "menu" not in text and "foot" not in text


def test_a_page_without_an_article_is_an_error(tmp_path):
    (tmp_path / "book" / "a").mkdir(parents=True)
    (tmp_path / "book" / "a" / "one.html").write_text("<p>nothing</p>")
    with pytest.raises(ToolError, match="has no article"):
        pdf.article(tmp_path, PurePosixPath("book/a/one.html"), KNOWN)


def test_without_a_browser_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "NAMES", ())
    with pytest.raises(ToolError, match="no Chromium found"):
        pdf.print_pdf(tmp_path / "book.html", tmp_path / "book.pdf")
    assert list(tmp_path.iterdir()) == []


def test_every_link_of_the_printed_book_leads_to_a_place_in_it():
    site = book.build(ROOT).parent
    text, folder = pdf.whole_book(ROOT, site), site.with_name("pdf")  # which may not be there yet
    names = Counter(re.findall(r'\sid="([^"]+)"', text))
    links = set(re.findall(r'\shref="#([^"]+)"', text))
    assert {link: names[link] for link in links if names[link] != 1} == {} and len(links) > 500
    files = [src for src in re.findall(r'\ssrc="([^"]+)"', text) if not src.startswith("data:")]
    assert files and [src for src in files if not (folder / src).resolve().is_file()] == []


@needs_browser
def test_the_book_prints():
    assert CHROMIUM, "no Chromium on a machine where CI=true"
    path = pdf.build(ROOT)
    data = path.read_bytes()
    sheets = len(re.findall(rb"/Type\s*/Page\b", data))
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert sheets > 10 * len(pdf.pages(ROOT)) and b"/Outlines" in data and b"/StructTreeRoot" in data
