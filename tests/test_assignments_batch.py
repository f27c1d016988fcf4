"""What an instructor collects and types in: files as students hand them in, and marks as spreadsheets save them."""

import io
import zipfile
from pathlib import Path

import pytest
from attacks import EXAMPLE

from tools.assignments import reading, reports, submissions
from tools.assignments.grading import Grade, Limits
from tools.assignments.jail import Jail
from tools.notebooks import ToolError


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, name)
    return buffer.getvalue()


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def collected(path: Path) -> dict[str, bytes | str]:
    return {s.student: s.problem or s.data for s in submissions.collect(path)}


def test_students_are_found_in_folders_and_zips(tmp_path):
    files = {
        "ada.ipynb": b"1", "bo/work (2).ipynb": b"2", "cy.zip": zipped("set/set.ipynb"),
        "di/all.zip": zipped("set.ipynb"), "all.zip": zipped("eve.ipynb", "fay/x.ipynb"), "gil/a.ipynb": b"",
        "gil/b.ipynb": b"", "hal.zip": b"PK", "ivy/ivy.zip": b"PK", ".ipynb_checkpoints/jo-checkpoint.ipynb": b"",
    }  # fmt: skip
    assert collected(put(tmp_path, files)) == {
        "ada": b"1", "bo": b"2", "cy": b"set/set.ipynb", "di": b"set.ipynb", "eve": b"eve.ipynb", "fay": b"fay/x.ipynb",
        "gil": "2 notebooks", "hal": "the zip cannot be read", "ivy": "the zip cannot be read",
    }  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ("set2/ada.ipynb", "set2/bo.ipynb", "__MACOSX/set2/._ada.ipynb"),
        ("set2/ada/a.ipynb", "set2/bo/a.ipynb", "set2/bo/.ipynb_checkpoints/a-checkpoint.ipynb"),
        ("ada.ipynb", "bo/x.ipynb"),
    ],
)
def test_a_folder_around_all_in_a_zip_is_no_student(tmp_path, names):
    path = put(tmp_path, {"in.zip": zipped(*names)}) / "in.zip"
    assert collected(path).keys() == {"ada", "bo"}


def test_what_is_no_notebook_is_named_unless_the_student_handed_in_one(tmp_path):
    folder = put(
        tmp_path, dict.fromkeys(("ada.ipynb", "ada.pdf", "bo.py", "cy/scan.pdf", "marks.csv", ".DS_Store"), b"")
    )
    assert submissions.left_aside(folder, submissions.collect(folder)) == ["bo.py", "cy/scan.pdf"]
    data = zipped(
        "set/ada/ada.ipynb", "set/ada/ada.pdf", "set/bo/work.ipynb", "set/cy/work.zip", "__MACOSX/set/._x.pdf"
    )
    path = put(tmp_path / "zip", {"in.zip": data}) / "in.zip"
    assert submissions.left_aside(path, submissions.collect(path)) == ["set/cy/work.zip"]


# --- marks ---------------------------------------------------------------------------------------------------

HEAD = "student,cell,possible,points,comment\n"


@pytest.fixture
def problems():
    return reading.read(EXAMPLE)


@pytest.mark.parametrize(
    "data",
    [
        (HEAD + 'ada,why-odd,2,1.5,"two\nlines"\nbo,why-odd,2,,\n').encode(),
        (HEAD + 'ada,why-odd,2,"1,5","two\nlines"\n').encode("utf-8-sig"),
        (HEAD + 'ada,why-odd,2,"1,5","two\nlines"\n').replace(",", ";").replace("1;5", "1,5").encode(),
        (HEAD + 'ada,why-odd,2,1.5,"two\nlines"\n').replace(",", "\t").encode(),
    ],
    ids=["plain", "bom-and-decimal-comma", "semicolons", "tabs"],
)
def test_marks_are_read_as_spreadsheets_save_them(tmp_path, problems, data):
    path = put(tmp_path, {"marks.csv": data}) / "marks.csv"
    assert reports.read_marks(path, problems) == {("ada", "why-odd"): (1.5, "two\nlines")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEAD.encode() + b"ada,why-odd,2,1,5,half\n", "marks.csv:2: more columns"),
        (HEAD.encode() + b"ada,why-odd,2,3,\n", "points from 0 to its number"),
        (HEAD.encode() + b"ada,cube,4,3,\n", "a written cell .why-odd."),
        (b"student,cell,mark\nada,why-odd,1\n", "no column possible, points"),
        (HEAD.encode() + "ada,why-odd,2,1,schön\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_marks_that_cannot_be_meant_are_refused(tmp_path, problems, data, reason):
    with pytest.raises(ToolError, match=reason):
        reports.read_marks(put(tmp_path, {"marks.csv": data}) / "marks.csv", problems)


def test_a_mark_for_nobody_is_reported_and_comments_stay_with_their_marks(problems):
    marks = {("=ada", "why-odd"): (1.5, "well"), ("typo", "why-odd"): (1.0, "")}
    grades = [Grade("=ada", "graded", {"law": 3.0, "cube": 4.0, "why-odd": 1.5})]
    assert reports.to_mark(problems, grades, marks).splitlines()[1] == "'=ada,why-odd,2,1.5,well"
    told = reports.report(problems, grades, Jail(None), 1, Limits(), marks, ["bo.py"])
    assert "not among the submissions:\n  typo: why-odd\n" in told and "\n  bo.py\n" in told
