"""Where a chapter comes from: stored once by the run that made it, shown under its figures."""

import os
import subprocess
from pathlib import Path

import nbformat
import pytest

from tools import chapter, notebooks, provenance
from tools.notebooks import Chapter

SOURCE = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# One

```{code-cell} ipython3
:tags: [parameters]

profile = "quick"
device = "auto"
seed = 3
```

```{code-cell} ipython3
print(seed)
```
"""
KNOWN = {
    "chapter": "a/one", "page": "abc1234", "profile": "quick", "seed": 3, "device": "cpu", "seconds": 2.5,
    "commit": "def<5678", "python": "3.11.7", "torch": "2", "numpy": "3", "scipy": "4", "sympy": "5",
}  # fmt: skip


@pytest.fixture
def one(tmp_path) -> Chapter:
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters: [{file: book/one.ipynb}]\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.md").write_text(SOURCE)
    return notebooks.chapters(tmp_path)[0]


def stored(one: Chapter) -> dict:
    return nbformat.read(one.notebook, as_version=4).metadata.symlib


def test_a_run_is_stored_and_kept_until_the_cells_change(one):
    assert chapter.refresh(one)
    first = stored(one)
    assert (first["profile"], first["seed"]) == ("quick", 3) and first["device"] in ("cpu", "cuda")
    assert first["seconds"] > 0 and {"commit", "python", "torch", "numpy", "scipy", "sympy"} <= first.keys()
    nb = nbformat.read(one.notebook, as_version=4)
    nb.metadata.symlib["seconds"] = 1234.5  # as if the run had been another one
    one.notebook.write_text(notebooks.to_json(nb))
    assert not chapter.refresh(one) and stored(one)["seconds"] == 1234.5
    one.source.write_text(SOURCE.replace("print(seed)", "print(seed + 1)"))
    assert chapter.refresh(one) and stored(one)["seconds"] != 1234.5


def test_the_stored_run_is_part_of_a_clean_notebook_and_not_of_its_source(one):
    chapter.refresh(one)
    nb = nbformat.read(one.notebook, as_version=4)
    assert notebooks.to_json(notebooks.clean(nb)) == notebooks.to_json(nb)
    assert "seconds" not in provenance.notebooks.jupytext.writes(nb, fmt="md:myst")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_file(tmp_path, monkeypatch):
    for name in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file = tmp_path / "one.ipynb"
    file.write_text("1")
    assert provenance.commit(file) == "unknown"  # no repository here
    git(tmp_path, "init", "-q")
    assert provenance.commit(file) == "unknown"  # not committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    first = git(tmp_path, "log", "-1", "--format=%h")
    (tmp_path / "other").write_text("2")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "two")
    assert provenance.commit(file) == first != git(tmp_path, "log", "-1", "--format=%h")
    file.write_text("3")
    assert provenance.commit(file) == f"{first}+"


def test_a_figure_shows_the_whole_run():
    text = provenance.details(provenance.facts(KNOWN, 4))
    for part in (
        "a/one.ipynb, code cell 4",
        "abc1234",
        "profile quick, seed 3, cpu, 2.5 s",
        "def&lt;5678",
        "torch 2, numpy 3",
    ):
        assert part in text
    assert "make chapter C=a/one" in text and text.startswith('<details class="provenance"><summary>')


def test_what_was_not_recorded_is_said():
    text = provenance.details(
        provenance.facts({key: KNOWN[key] for key in ("chapter", "page", "profile", "seed")}, None)
    )
    assert "profile quick, seed 3, device, versions and time were not recorded" in text and "code cell" not in text


def test_rows_of_the_scoreboard_get_device_and_commit():
    row = '<span class="run" data-chapter="a/one"></span>'
    assert provenance.RUN.fullmatch(row) and provenance.run_html(KNOWN) == "· cpu · <code>abc1234</code>"
    assert provenance.run_html({"page": "unknown"}) == "· <code>unknown</code>"
