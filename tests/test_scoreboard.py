"""The scoreboard: every card of the book once, in reading order, the same text every time."""

import csv
import io
import re

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output, writes

from tools import scoreboard
from tools.notebooks import ROOT, ToolError

TOC = """\
format: jb-book
root: book/index
parts:
  - caption: Zeta & Co
    chapters: [{file: book/z/last-letter.ipynb}]
  - caption: Alpha
    chapters: [{file: book/a/first-letter.ipynb}]
"""
PROOF = {
    "kind": "proof",
    "id": "rescaling-relu",
    "statement": "rescaling by $a < b$ keeps the function",
    "status": "proved",
    "scope": "all sizes",
    "method": "symbolic",
    "assumptions": ["a > 0"],
    "witness": None,
}
CLAIM = {
    "kind": "claim",
    "id": "noether.drift-order",
    "statement": "drift is <b>first</b> order",
    "measured": 1.0023456,
    "within": [0.95, 1.05],
    "unit": "",
    "source": "A paper, eq. 3",
    "paper": "1",
    "verdict": "not reproduced",
    "members": 32,
    "spread": [0.981, 1.03],
    "profile": "quick",
}


def write_book(root, **chapters):
    """A book of two chapters; a keyword `a` or `z` gives the records that the chapter shows."""
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    for folder, name in (("z", "last-letter"), ("a", "first-letter")):
        outputs = [new_output("display_data", metadata={"symlib": r}) for r in chapters.get(folder, [])]
        path = root / "book" / folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(writes(new_notebook(cells=[new_code_cell("x", outputs=outputs)])), encoding="utf-8")
    return root


def table_rows(text: str) -> list[str]:
    return re.findall(r"<tr id=.*</tr>", text)


def test_rows_stand_in_reading_order_and_lead_to_their_cards(tmp_path):
    write_book(tmp_path, z=[CLAIM], a=[PROOF])
    scoreboard.update(tmp_path)
    first, second = table_rows((tmp_path / scoreboard.PAGE).read_text(encoding="utf-8"))
    assert 'href="../z/last-letter.html#claim-noether-drift-order"' in first
    assert 'href="../a/first-letter.html#proof-rescaling-relu"' in second
    assert 'data-part="Zeta &amp; Co" data-check="measured" data-verdict="not reproduced"' in first


def test_a_row_says_what_stands_behind_it(tmp_path):
    write_book(tmp_path, z=[CLAIM], a=[PROOF])
    first, second = table_rows(scoreboard.text_of(tmp_path))
    assert "<td>1.002 <small>0.981 to 1.03<br> 32 members</small></td><td>between 0.95 and 1.05</td>" in first
    assert "<td>1 <small>A paper, eq. 3</small></td><td>quick " in first
    assert "<td>–</td><td>all sizes</td><td>–</td><td>quick " in second


def test_a_row_has_an_address_of_its_own(tmp_path):
    write_book(tmp_path, z=[CLAIM], a=[PROOF])
    for row in table_rows(scoreboard.text_of(tmp_path)):
        place = re.search('<tr id="(row-[a-z0-9-]+)"', row)
        assert place and f'href="#{place[1]}"' in row


def test_the_summary_counts_and_leads_to_the_rows_it_counts(tmp_path):
    write_book(tmp_path, z=[CLAIM, CLAIM | {"id": "b"}], a=[PROOF])
    text = scoreboard.text_of(tmp_path)
    assert '<a href="?part=Zeta+%26+Co&amp;verdict=not+reproduced#rows">2</a>' in text
    assert '<a href="?verdict=proved#rows">1</a>' in text and '<a href="?#rows">3</a>' in text
    assert "**0 theorems**, **1 proof** and **2 claims**" in text


def test_the_downloads_hold_the_rows_of_the_page(tmp_path):
    write_book(tmp_path, z=[CLAIM], a=[PROOF])
    origins = {"book/z/last-letter": {"page": "abc", "device": "cpu"}, "book/a/first-letter": {"page": "unknown"}}
    rows = scoreboard.plain_rows(scoreboard.read_rows(tmp_path), origins)
    assert [row["row"] for row in rows] == re.findall('<tr id="row-([^"]+)"', scoreboard.text_of(tmp_path))
    first, second = csv.DictReader(io.StringIO(scoreboard.as_csv(rows)))
    assert (first["measured"], first["spread"], first["within"]) == ("1.0023456", "0.981 to 1.03", "0.95 to 1.05")
    assert (first["commit"], first["device"], first["verdict"]) == ("abc", "cpu", "not reproduced")
    assert (second["scope"], second["measured"], second["check"]) == ("all sizes", "", "symbolic")
    assert scoreboard.as_csv([]) == "row\n"


def test_text_is_escaped_and_mathematics_marked(tmp_path):
    text = scoreboard.text_of(write_book(tmp_path, z=[CLAIM], a=[PROOF]))
    assert "&lt;b&gt;first" in text and "<b>first" not in text
    assert r'<span class="math notranslate nohighlight">\(a &lt; b\)</span>' in text


def test_the_table_is_one_html_block(tmp_path):
    """Markdown ends an HTML block at a blank line, and reads on inside it."""
    text = scoreboard.text_of(write_book(tmp_path, z=[CLAIM | {"statement": "two\n\nlines"}]))
    assert "\n\n" not in text[text.index('<table id="rows"') : text.rindex("</table>")]


def test_twice_is_the_same_and_a_check_sees_a_change(tmp_path, capsys):
    write_book(tmp_path, z=[CLAIM])
    root = ["--root", str(tmp_path)]
    assert scoreboard.main(["--check", *root]) == 1
    assert scoreboard.update(tmp_path)
    assert not scoreboard.update(tmp_path)
    assert scoreboard.main(["--check", *root]) == 0
    write_book(tmp_path, z=[CLAIM | {"measured": 1.01}])
    assert scoreboard.main(["--check", *root]) == 1
    assert "out of step" in capsys.readouterr().err


def test_a_second_card_with_the_same_address_is_an_error(tmp_path):
    write_book(tmp_path, z=[CLAIM], a=[CLAIM | {"id": "noether-drift.order"}])
    with pytest.raises(ToolError, match=r"claim id 'noether-drift.order' .*z/last-letter and in a/first-letter"):
        scoreboard.read_rows(tmp_path)


def test_a_book_without_cards_has_an_empty_table(tmp_path):
    text = scoreboard.text_of(write_book(tmp_path))
    assert "**0 proofs** and **0 claims**" in text and table_rows(text) == []


def test_the_committed_page_is_in_step():
    assert scoreboard.main(["--check", "--root", str(ROOT)]) == 0
