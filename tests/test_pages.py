"""What the site says about the book: contents, map, numbers, the bar of a chapter, citation, and the one address."""

import re
import tomllib
from collections import Counter
from xml.etree import ElementTree

import pytest
import yaml

from tests.test_build import small  # noqa: F401  (a fixture)
from tools import book, book_map, contents, notebooks, pages, publish, scoreboard
from tools.notebooks import ROOT, ToolError

ENTRIES = contents.entries(ROOT)
REPOSITORY = "https://github.com/someone/symmetries"


# --- contents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.chapter.name)
def test_a_chapter_has_a_sentence_a_thumbnail_and_its_counts(entry):
    assert re.fullmatch(r"[A-Z].{30,140}[.?]", entry.shows)
    assert entry.thumbnail and entry.thumbnail.png.startswith(b"\x89PNG") and len(entry.thumbnail.png) < 30_000
    assert len(entry.thumbnail.alt) > 40
    rows = [r for r in scoreboard.read_rows(ROOT) if r.chapter.name == entry.chapter.name]
    assert entry.verdicts == Counter(r.verdict for r in rows) and entry.verdicts.total() == entry.kinds.total()
    assert 5 <= entry.minutes <= 90 and entry.figures >= 1


def test_every_part_has_a_page_that_holds_its_chapters():
    parts = contents.parts(ROOT)
    assert [p.docname for p in parts] == [f"book/{p.entries[0].chapter.name.split('/')[0]}/index" for p in parts]
    shown = [e.chapter.name for p in parts for e in p.entries]
    assert shown == [e.chapter.name for e in ENTRIES if e.chapter.part != "Appendix"]
    assert all(p.question.endswith("?") for p in parts)


def test_a_row_for_no_chapter_and_a_chapter_without_a_row_are_errors(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / contents.TABLE).write_text("a/one: {shows: A., figure: f}\n")
    assert contents.read_table(tmp_path, ["a/one"])["a/one"]["figure"] == "f"
    for names in (["a/one", "a/two"], []):
        with pytest.raises(ToolError, match=r"a/(one|two)"):
            contents.read_table(tmp_path, names)


def test_a_thumbnail_of_no_figure_names_those_that_exist():
    nb = notebooks.nbformat.read(ENTRIES[0].chapter.notebook, as_version=4)
    with pytest.raises(ToolError, match=r"'fig-none'.*fig-orbit"):
        contents.thumbnail(nb, "fig-none", None, "here")
    whole, part = (contents.thumbnail(nb, "fig-orbit", crop, "here") for crop in (None, [0, 0, 0.5, 0.5]))
    assert len(part.png) < len(whole.png) and part.alt == f"Part of a figure. {whole.alt}"


# --- map -----------------------------------------------------------------------------------------------------

TEXTS = {
    "a/one": "(sec-one)=\n## One\n```{prf:theorem} A\n:label: thm-one\n```\nSee {doc}`../b/two`.",
    "a/own": "{prf:ref}`thm-own`\n```{prf:lemma}\n:label: thm-own\n```",
    "b/two": "mystnb:\n  figure: {caption: A curve., name: fig-two}\n",
}


@pytest.mark.parametrize(
    "reference",
    ["{doc}`../a/one`", "{doc}`the first <../a/one>`", "{prf:ref}`thm-one`", "{ref}`there <sec-one>`"],
)
def test_a_reference_to_an_earlier_chapter_is_a_need(reference):
    assert book_map.needs(TEXTS | {"b/three": f"As in {reference}."}) == [("a/one", "b/three")]


@pytest.mark.parametrize("text", ["No reference.", "{doc}`../appendix/notation`", "{term}`orbit`", "`{doc}`"])
def test_without_a_reference_there_is_no_arrow(text):
    assert book_map.needs(TEXTS | {"b/three": text}) == []


def test_a_figure_of_a_notebook_is_known_by_its_name():
    assert book_map.needs(TEXTS | {"b/three": "{numref}`fig-two`"}) == [("b/two", "b/three")]


def test_an_arrow_that_follows_from_others_is_not_drawn():
    assert book_map.direct([("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("a", "e")]) == [
        ("a", "b"), ("b", "c"), ("c", "d"), ("a", "e"),
    ]  # fmt: skip


def test_the_map_of_the_book_draws_every_chapter_and_a_known_need():
    edges, parts = book_map.read_needs(ROOT), contents.parts(ROOT)
    assert ("conservation/noether-for-gradient-flow", "conservation/broken-laws") in edges
    drawn = ElementTree.fromstring(book_map.svg(parts, edges, lambda name: f"{name}.html"))
    links = [a.get("href") for a in drawn.iter("a") if "chapter" in a.get("class")]
    assert links == [f"{e.docname}.html" for p in parts for e in p.entries]
    assert len([p for p in drawn.iter("path") if "need" in p.get("class", "")]) == len(edges)
    listed = book_map.as_list(parts, edges, lambda name: f"{name}.html")
    assert listed.count(" needs ") == len({b for _, b in edges}) and listed.count("<li>") == len(links)


# --- numbers and the bar -------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_scoreboard():
    html = pages.numbers_html(ENTRIES, "scoreboard.html")
    rows = Counter(r.verdict for r in scoreboard.read_rows(ROOT))
    shown = dict(re.findall(r'verdict=([\w+]+)"><strong>(\d+)', html))
    assert {k.replace("+", " "): int(n) for k, n in shown.items()} == {k: rows[k] for k in pages.NUMBERS}
    assert set(rows) <= {*pages.NUMBERS, "open"}


def test_the_bar_shows_the_exact_commands_and_launches_only_with_an_address():
    entry = ENTRIES[1]
    bare = pages.bar(entry, "../../", "", publish.launch_links("", "main", "x.ipynb"))
    assert f"make run C={entry.chapter.name}\n" in bare and "PROFILE=full" in bare and "seed=1" in bare
    assert f'href="../../_sources/{entry.docname}.ipynb"' in bare
    assert not re.search(r"https?:|git\+|Colab|Binder", bare)
    known = notebooks.chapters(ROOT)
    assert notebooks.choose(known, re.search(r"C=(\S+)", bare)[1]) == [entry.chapter]
    links = publish.launch_links(REPOSITORY, "main", f"{entry.docname}.ipynb")
    full = pages.bar(entry, "../../", REPOSITORY, links)
    assert f"git+{REPOSITORY}" in full and all(name in full for name in ("Colab", "Binder"))


def test_binder_installs_pins_of_the_book():
    pins = {line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    binder = {line for line in (ROOT / ".binder/requirements.txt").read_text().splitlines() if not line.startswith("#")}
    assert binder <= pins and any(line.startswith("torch==") for line in binder)


# --- citation ------------------------------------------------------------------------------------------------


def test_the_citation_agrees_with_the_package_and_the_site():
    found = publish.citation(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert found["version"] == project["version"] and found["title"] == config["title"]
    assert str(found["date-released"])[:4] == config["copyright"]
    entry = publish.bibtex(found, "https://example.org/")
    assert entry.startswith("@software{") and entry.count("{") == entry.count("}")
    assert f"{{{found['title']}}}" in entry and "https://example.org/" in entry
    assert "url" not in publish.bibtex(found, "")


def test_a_citation_that_lacks_something_says_what(tmp_path):
    with pytest.raises(ToolError, match="does not exist"):
        publish.citation(tmp_path)
    text = re.sub("^version.*\n", "", (ROOT / publish.CITATION).read_text(), flags=re.M)
    (tmp_path / publish.CITATION).write_text(text)
    with pytest.raises(ToolError, match="lacks version"):
        publish.citation(tmp_path)


# --- the one address -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "site"),
    [
        (REPOSITORY, "https://someone.github.io/symmetries/"),
        (f"{REPOSITORY}.git", "https://someone.github.io/symmetries/"),
        ("https://gitlab.com/someone/symmetries", ""),
        ("https://example.org/github.com/x", ""),
        ("", ""),
    ],
)
def test_pages_and_launch_links_follow_from_a_github_address(url, site):
    assert publish.pages_address(url) == site
    assert bool(publish.launch_links(url, "main", "book/a.ipynb")) == bool(site)


def test_the_sitemap_is_xml_with_every_page():
    root = ElementTree.fromstring(publish.sitemap("https://example.org/", ["a.html", "b/c&d.html"]).encode())
    assert [e.text for e in root.iter() if e.tag.endswith("loc")] == [
        "https://example.org/a.html",
        "https://example.org/b/c&d.html",
    ]


SWITCHED = {
    "repository button": 'href="https://github.com/someone/symmetries"',
    "issue button": "symmetries/issues/new",
    "edit button": "symmetries/edit/main/book/chapter.ipynb",
    "Colab": "colab.research.google.com/github/someone/symmetries/blob/main/book/chapter.ipynb",
    "Binder": "mybinder.org/v2/gh/someone/symmetries/main",
    "install line": "git+https://github.com/someone/symmetries",
    "canonical address": '<link rel="canonical" href="https://someone.github.io/symmetries/book/chapter.html"',
    "card address": 'property="og:url" content="https://someone.github.io/symmetries/book/chapter.html"',
    "card image": 'property="og:image" content="https://someone.github.io/symmetries/_static/',
}


def test_one_address_switches_everything_on_and_none_leaves_nothing(small):  # noqa: F811
    (small / "book" / "index.md").write_text("# Home\n\nThe area is $x^2$.\n\nA *small* book. It has no map.\n")
    html = book.build(small).parent
    page = (html / "book" / "chapter.html").read_text(encoding="utf-8")
    assert [name for name, text in SWITCHED.items() if text in page] == []
    assert not (html / "sitemap.xml").exists()
    assert 'property="og:title" content="A chapter"' in page and "make run C=chapter" in page
    home = (html / "book" / "index.html").read_text(encoding="utf-8")
    assert '<meta name="description" content="A small book.">' in home
    assert "creativecommons.org/licenses/by/4.0" in page and "opensource.org/license/mit" in page
    config = small / "_config.yml"
    config.write_text(config.read_text().replace('repository: {url: ""', f'repository: {{url: "{REPOSITORY}"'))
    page = (book.build(small).parent / "book" / "chapter.html").read_text(encoding="utf-8")
    assert [name for name, text in SWITCHED.items() if text not in page] == []
    assert "https://someone.github.io/symmetries/book/chapter.html" in (html / "sitemap.xml").read_text()
