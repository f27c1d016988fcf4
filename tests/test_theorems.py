"""Badges of theorems: derived from the cards, never more than these say; what is declared and what exists agree."""

import dataclasses

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

from tests.test_scoreboard import CLAIM, PROOF
from tools import theorems
from tools.notebooks import ROOT, ToolError

BOX = """\
````{prf:theorem} Two halves
:label: thm-halves

1. The first half.
2. The second half.
````
"""
PROVED = BOX + "\n````{prf:proof}\nObvious.\n````\n"
ROW = {"Part 1": ["proof-rescaling-relu"], "Part 2, one width": ["claim-noether-drift-order"]}


def write_book(root, text=PROVED, declared=None, records=(PROOF, CLAIM)):
    """A book of one chapter with one theorem, its row and its cards."""
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters: [{file: book/a/one.ipynb}]\n")
    (root / "book" / "a").mkdir(parents=True, exist_ok=True)
    outputs = [new_output("display_data", metadata={"symlib": record}) for record in records]
    cells = [new_markdown_cell(text), new_code_cell("x", outputs=outputs)]
    (root / "book" / "a" / "one.ipynb").write_text(writes(new_notebook(cells=cells)), encoding="utf-8")
    rows = {"thm-halves": ROW} if declared is None else declared
    (root / theorems.FILE).write_text(theorems.yaml.safe_dump(rows, sort_keys=False), encoding="utf-8")
    return root


def badge_of(root) -> str:
    (theorem,) = theorems.theorems(root)
    return theorems.badge(theorem)


def test_a_badge_says_how_and_for_what_each_part_was_checked(tmp_path):
    text = badge_of(write_book(tmp_path))
    assert "Proved in the text" in text
    assert (
        'Part 1: <b class="symbolic-check">proved symbolically</b> (<a href="#proof-rescaling-relu">all sizes</a>)'
        in text
    )
    assert "Part 2, one width: <b" in text and "checked numerically</b>" in text
    assert "drift is &lt;b&gt;first&lt;/b&gt; order</a>" in text and "no card" not in text


def test_a_proof_counts_only_where_it_follows_its_theorem(tmp_path):
    assert "Proved in the text" not in badge_of(write_book(tmp_path, BOX))
    assert "Proved in the text" not in badge_of(write_book(tmp_path, f"{BOX}\nWords.\n{PROVED.removeprefix(BOX)}"))
    assert "Stated" in badge_of(write_book(tmp_path, BOX, {"thm-halves": {}}))
    assert "No card" in badge_of(write_book(tmp_path, PROVED, {"thm-halves": {}}))


def test_a_part_without_a_card_is_named(tmp_path):
    assert "Part 2: no card" in badge_of(write_book(tmp_path, declared={"thm-halves": {"Part 1": ROW["Part 1"]}}))
    assert "Parts 1 and 2: no card" in badge_of(
        write_book(tmp_path, declared={"thm-halves": {"A case": ROW["Part 1"]}})
    )


def test_the_words_follow_the_record(tmp_path):
    """What changes in the card changes in the badge: nothing of it is typed."""
    finite = PROOF | {"method": "exhaustive", "scope": "network 2-2-1"}
    assert 'checked exhaustively</b> (<a href="#proof-rescaling-relu">network 2-2-1</a>)' in badge_of(
        write_book(tmp_path, records=(finite, CLAIM))
    )
    refuted = PROOF | {"status": "refuted", "method": "witness"}
    assert "shown by a witness" in badge_of(write_book(tmp_path, records=(refuted, CLAIM)))


MUTANTS = {
    "no row for thm-halves": {"declared": {}},
    "no chapter has thm-gone": {"declared": {"thm-halves": ROW, "thm-gone": {}}},
    "no card proof-nothing": {"declared": {"thm-halves": {"Part 1": ["proof-nothing"]}}},
    "has 2 parts": {"declared": {"thm-halves": {"Part 3": ROW["Part 1"]}}},
    "an open proof checks nothing": {"records": (PROOF | {"status": "open"}, CLAIM)},
    "has no :label:": {"text": PROVED.replace(":label: thm-halves\n", "")},
}


@pytest.mark.parametrize("message", MUTANTS)
def test_what_does_not_fit_is_an_error(tmp_path, message):
    with pytest.raises(ToolError, match=message):
        theorems.theorems(write_book(tmp_path, **MUTANTS[message]))


@pytest.mark.parametrize(
    "covers, named", [("Part 2, tanh", [2]), ("Parts 1 to 3", [1, 2, 3]), ("Parts 1 and 4", [1, 4]), ("A step", [])]
)
def test_parts_are_read_from_the_words(covers, named):
    assert theorems.numbers(covers) == named


@pytest.fixture(scope="module")
def known():
    return theorems.theorems(ROOT)


def test_every_theorem_of_the_book_has_its_badge(known):
    assert len(known) >= 28 and all(theorems.badge(theorem) for theorem in known)
    assert {t.label for t in known if not t.proved} == {"thm-counting"}


def test_no_badge_of_the_book_says_more_than_its_cards(known):
    """A scope stands in every line, and "all sizes" only where a card was proved for all sizes."""
    for theorem in known:
        for check in theorem.checks:
            text = theorems.line(check)
            assert all(theorems.rich(theorems.scope(row)) in text and f'"#{row.anchor}"' in text for row in check.cards)
            assert ("for all sizes" in text) == (check.method == "all sizes")
            wrong = dataclasses.replace(check, method="all sizes")
            assert "for all sizes" in theorems.line(wrong)
