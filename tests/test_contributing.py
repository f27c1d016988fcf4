"""The chapter that CONTRIBUTING starts from, with the rows given there, keeps every rule; its mutants are refused."""

import re
import textwrap

import nbformat
import pytest

from tests.test_book import RULES
from tools import contents, notebooks, theorems
from tools.chapter import refresh
from tools.notebooks import ROOT, ToolError

SOURCE = (ROOT / "tests" / "chapters" / "example.md").read_text(encoding="utf-8")
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CARD, BADGE = (textwrap.dedent(block) for block in re.findall(r"^ +```yaml\n(.*?)^ +```$", TEXT, re.M | re.S))
TOC = "format: jb-book\nroot: book/index\nchapters:\n- file: book/landscape/sharp-valley.ipynb\n"


@pytest.fixture
def book(tmp_path):
    """The book that the recipe makes, of this chapter alone and not yet executed."""
    folder = tmp_path / "book" / "landscape"
    folder.mkdir(parents=True)
    (folder / "sharp-valley.md").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / contents.TABLE).write_text(CARD)
    (tmp_path / theorems.FILE).write_text(BADGE)
    return tmp_path


def test_the_example_keeps_every_rule(book):
    (chapter,) = notebooks.chapters(book)
    assert refresh(chapter)
    nb = nbformat.read(chapter.notebook, as_version=4)
    assert [problem for rule in RULES for problem in rule(nb)] == []
    (entry,) = contents.entries(book)
    assert entry.shows and entry.thumbnail and entry.kinds == {"proof": 2, "claim": 2}
    (theorem,) = theorems.theorems(book)
    assert theorem.proved and {check.method for check in theorem.checks} == {"symbolic", "measured"}
    (book / theorems.FILE).write_text(BADGE.replace("claim-sharp-trace", "claim-sharp-race"))
    with pytest.raises(ToolError, match="has no card claim-sharp-race"):
        theorems.theorems(book)


def test_its_mutant_is_refused(book):
    (chapter,) = notebooks.chapters(book)
    chapter.source.write_text(SOURCE.replace("= 2 * scales**2", "= 5 * scales**2"), encoding="utf-8")
    with pytest.raises(ToolError, match=r"claim 'sharp.trace': measured .* is not between 0 and 1e-12"):
        refresh(chapter)
    assert not chapter.notebook.exists()
