"""Real builds of a small book with the book's own configuration: what must fail does, twice too."""

import shutil
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

from tools import book
from tools.notebooks import LANGUAGE, ROOT, ToolError

TOC = """\
format: jb-book
root: book/index
chapters: [{file: book/chapter.ipynb}, {file: book/appendix/scoreboard}]
"""


@pytest.fixture
def small(tmp_path) -> Path:
    """A sound book of a home page, one executed notebook and the scoreboard."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "book" / "index.md").write_text("# Home\n\nThe area is $x^2$; see {doc}`chapter`.\n")
    (tmp_path / "book" / "references.bib").touch()
    write_chapter(tmp_path, execution_count=1)
    return tmp_path


def write_chapter(root: Path, execution_count: int | None) -> None:
    cells = [new_markdown_cell("# A chapter"), new_code_cell("x = 1", execution_count=execution_count)]
    nb = new_notebook(cells=cells, metadata={"language_info": LANGUAGE})
    (root / "book" / "chapter.ipynb").write_text(writes(nb))


def fails_twice(root: Path, capfd) -> str:
    for _ in range(2):
        with pytest.raises(ToolError, match="the site was not built"):
            book.build(root)
    return capfd.readouterr().err


def test_a_sound_book_is_built_self_contained(small):
    html = book.build(small).parent
    assert (html / "book" / "chapter.html").is_file()
    assert "data:font/woff" in (html / "_static" / "mathematics.css").read_text(encoding="utf-8")
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not any(cdn in text for cdn in ("jsdelivr", "unpkg", "cdnjs", "googleapis")), page


def test_a_page_that_was_not_executed_fails_the_build(small, capfd):
    write_chapter(small, execution_count=None)
    assert "book/chapter.ipynb: code cell 1 was not executed" in fails_twice(small, capfd)


@pytest.mark.parametrize("text", ["{cite:t}`nobody2026`", "[](nowhere.md)"])
def test_a_broken_reference_fails_the_build_until_it_is_mended(small, capfd, text):
    book.build(small)
    page = small / "book" / "index.md"
    sound = page.read_text()
    page.write_text(f"{sound}\n{text}\n")
    assert "index.md" in fails_twice(small, capfd)
    page.write_text(sound)
    assert book.build(small).is_file()


def test_mathematics_is_typeset_by_the_build_and_by_the_next_one(small):
    index = book.build(small).parent / "book" / "index.html"
    sheet = index.parents[1] / "_static" / "mathematics.css"
    assert "<mjx-container" in index.read_text() and "mjx-c1D465" in sheet.read_text()  # an italic x
    chapter = small / "book" / "chapter.ipynb"
    chapter.write_text(chapter.read_text().replace("# A chapter", "# A chapter with $z$"))
    book.build(small)
    assert "mjx-c1D467" in index.with_name("chapter.html").read_text()
    assert "<mjx-container" in index.read_text()
    assert "mjx-c1D465" in sheet.read_text() and "mjx-c1D467" in sheet.read_text()


def test_a_formula_that_is_no_tex_fails_the_build(small, capfd):
    with (small / "book" / "index.md").open("a") as page:
        page.write("\nHere is $\\nosuchmacro$.\n")
    said = fails_twice(small, capfd)
    assert "book/index.html: \\nosuchmacro: Undefined control sequence" in said
