"""The problem sets of the book: their own claims about points, and that nothing private is in what others see."""

import csv
import html
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from attacks import EXAMPLE, needs_sandbox, run

from tools import mathematics
from tools.assignments import feedback, notebooks, reading, trial
from tools.assignments.source import BEGIN, PRIVATE, ProblemSet
from tools.notebooks import ROOT, is_tagged, to_json

BOOK = [pytest.param(p, id=p.stem) for p in reading.sets(ROOT)]
SETS = [pytest.param(EXAMPLE, id="example"), *BOOK]
SITE = ROOT / "_build" / "html"
SHORTEST = 24  # characters of a line that can give something away


@pytest.mark.parametrize("path", SETS)
def test_every_variant_gets_the_points_that_the_set_claims(path):
    problems = reading.read(path)
    outcomes = list(trial.outcomes(problems, trial.rounds(problems)))
    wrong = {
        o.variant.title: (sorted(o.lost ^ o.variant.loses), o.wrong, o.errors) for o in outcomes if not o.as_wanted
    }
    assert not wrong
    stubs = next(o for o in outcomes if o.variant.title == "stubs")
    assert stubs.errors.keys() == {e for e in stubs.errors if e.startswith(("submit", "self-check"))}


@pytest.mark.parametrize("path", SETS)
def test_every_variant_is_in_one_round_and_loses_in_its_own_exercise(path):
    problems = reading.read(path)
    together = "; ".join(v.title for v in trial.rounds(problems)).split("; ")
    assert sorted(together) == sorted(v.title for v in trial.variants(problems))
    exercises = {c.name: e.number for e in problems.exercises for c in e.cells}
    for cell in problems.kind("wrong"):
        assert {exercises[name] for name in cell.loses} == {problems.exercise_of[cell.replaces]}


@needs_sandbox()
@pytest.mark.parametrize("path", BOOK)
def test_the_grader_gives_the_points_that_the_set_claims(path, tmp_path):
    """The whole way, in the sandbox and on inputs of another seed: the reference, the stubs, a mistake an exercise."""
    problems = reading.read(path)
    (tmp_path / "in").mkdir()
    chosen = dict(zip(("reference", "stubs", "mistakes"), trial.rounds(problems), strict=False))
    for student, variant in chosen.items():
        nb, answers = notebooks.stripped(problems), {c.name: c.source for c in variant.cells if c.kind == "answer"}
        for cell in nb.cells:
            cell.source = answers.get(notebooks.graded_name(cell, "answer"), cell.source)
        (tmp_path / "in" / f"{student}.ipynb").write_text(to_json(nb), encoding="utf-8")
    told = run(tmp_path, "grade", path, tmp_path / "in", "--seed", "3", "--seconds", "200", "600")
    assert told.returncode == 0, told.stderr + told.stdout
    table = (tmp_path / "_build" / "grades" / problems.name / "grades.csv").read_text().splitlines()
    got = {row["student"]: (row["status"], float(row["automatic"])) for row in csv.DictReader(table)}
    points = {c.name: c.points for c in problems.kind("submit")}
    kept = {name: sum(points.values()) - sum(points[n] for n in v.loses) for name, v in chosen.items()}
    assert got == {name: ("graded", total) for name, total in kept.items()}
    assert kept["stubs"] == 0 < kept["mistakes"] < kept["reference"]


@pytest.mark.parametrize("path", BOOK)
def test_a_set_of_the_book_is_complete(path):
    problems = reading.read(path)
    assert problems.points == 100
    assert 20 <= sum(c.points for c in problems.kind("written")) <= 25
    assert 5 <= len(problems.exercises) <= 7
    assert len(problems.kind("wrong")) >= 6 and len(problems.kind("equivalent")) >= 4
    assert all(line[:1] != "%" for c in problems.cells if c.is_code for line in c.source.splitlines())


@pytest.mark.parametrize("path", SETS)
def test_every_formula_is_plain_tex(path):
    """A notebook knows none of the book's macros."""
    problems = reading.read(path)
    texts = [cell.source for cell in notebooks.stripped(problems).cells if cell.cell_type == "markdown"]
    texts += [cell.source for cell in problems.kind("solution")]
    found = mathematics.formulas("".join(feedback.safe_markdown({}, text) for text in texts))
    assert mathematics.typeset(found, {}).errors == {} and found


@pytest.mark.parametrize("path", SETS)
def test_stub_and_source_differ_in_the_solutions_only(path):
    problems = reading.read(path)
    pairs = zip(notebooks.stripped(problems).cells, notebooks.source(problems).cells, strict=True)
    for student, full in pairs:
        kept = re.sub(rf"^( *){BEGIN}\n(.*\n)*?\1### END SOLUTION$", "", full.source, flags=re.MULTILINE)
        cut = re.sub(
            r"^ +raise NotImplementedError\(.your answer here.\)$|^# your answer here$", "", student.source, flags=re.M
        )
        assert (student.cell_type, student.metadata) == (full.cell_type, full.metadata)
        assert cut == kept if BEGIN in full.source else student.source == full.source


# --- nothing private leaks ---------------------------------------------------------------------------------


def bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def private_lines(problems: ProblemSet) -> set[str]:
    """Lines, without spaces, of solutions, checks and variants that no public cell has."""
    public = {bare(line) for c in notebooks.stripped(problems).cells for line in c.source.splitlines()}
    hidden = [c.source for c in problems.cells if c.kind in PRIVATE or c.kind == "answer"]
    lines = {bare(line) for source in hidden for line in source.splitlines() if "import" not in line}
    return {line for line in lines - public if len(line) >= SHORTEST}


def readings(data: bytes) -> str:
    """A file as it is, as HTML without tags, and as JSON text, all without spaces; of a zip, every member's."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "".join(readings(archive.read(name)) for name in archive.namelist())
    text = data.decode("utf-8", errors="ignore")
    plain = html.unescape(re.sub(r"<[^>]*>", "", text))
    escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
    unescaped = escape.sub(lambda m: chr(int(m[1], 16)) if m[1] else {"n": "\n", "t": "\t"}.get(m[2], m[2]), text)
    return "\n".join(map(bare, (text, plain, unescaped)))


def leaks(data: bytes, secrets: set[str]) -> list[str]:
    seen = readings(data)
    return sorted(secret for secret in secrets if secret in seen)


@pytest.mark.parametrize("path", SETS)
def test_the_release_gives_nothing_away_and_the_solutions_do(path):
    problems = reading.read(path)
    secrets = private_lines(problems)
    assert len(secrets) >= 3
    assert leaks(to_json(notebooks.stripped(problems)).encode(), secrets) == []
    assert len(leaks(to_json(notebooks.instructors(problems)).encode(), secrets)) > len(secrets) / 2


def spanned(line: str) -> bytes:
    return b"".join(b"<span>%b</span>" % html.escape(c).encode() for c in line)


def zipped(line: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", line)
    return buffer.getvalue()


@pytest.mark.parametrize("hide", [str.encode, spanned, zipped, lambda s: json.dumps([s]).encode()])
def test_the_search_finds_a_secret_in_every_dress(hide):
    line = 'secret = f("a\\nb") < 3 and "é ≤ x" # a comment'
    assert leaks(hide(line), {bare(line)}) == [bare(line)]
    assert leaks(hide(line[:-1]), {bare(line)}) == []


def test_nothing_private_is_anywhere_in_the_site():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make book")
    secrets = {line for p in reading.sets(ROOT) for line in private_lines(reading.read(p))}
    chapters = "".join(bare(p.read_text()) for p in (ROOT / "book").rglob("*.ipynb"))  # public by themselves
    chapters += "".join(bare(p.read_text()) for p in (ROOT / "symlib").rglob("*.py"))
    secrets = {s for s in secrets if s not in chapters and bare(json.dumps(s)[1:-1]) not in chapters}
    binary = {".woff", ".woff2", ".ttf", ".eot", ".png", ".jpg", ".ico", ".inv"}
    files = [p for p in SITE.rglob("*") if p.is_file() and p.suffix not in binary]
    found = {str(p.relative_to(SITE)): hits for p in files if (hits := leaks(p.read_bytes(), secrets))}
    assert not found


def test_no_released_cell_is_private():
    for path in [EXAMPLE, *reading.sets(ROOT)]:
        nb = notebooks.stripped(reading.read(path))
        assert not [c for c in nb.cells for kind in PRIVATE if is_tagged(c, kind)]
        assert not re.search(r"\btools\.", "\n".join(c.source for c in nb.cells if c.cell_type == "code")), Path(path)
