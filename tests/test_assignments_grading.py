"""Grading on the instructor's machine: every attack costs its author what it should, and nobody else anything."""

import csv
import hashlib
import json
import os
import re
import socket
import tempfile
import zipfile
from pathlib import Path

import attacks
import nbformat
import pytest
from attacks import ATTACKS, BROKEN, EXAMPLE, LOOPS, PROBED, PROBES, ROOT, Attack, hand_in, run

pytestmark = attacks.needs_sandbox()


def rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["student"]: row for row in csv.DictReader((out / "grades.csv").read_text().splitlines())}


def open_above(path: Path) -> None:
    """Let an ordinary user into this folder of a test."""
    above = Path(tempfile.gettempdir()).resolve()
    for folder in (path, *path.parents):
        if folder.is_relative_to(above) and folder != above:
            folder.chmod(0o755)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> nbformat.NotebookNode:
    """The release of the example, made by a build of a book that has only this set."""
    root = tmp_path_factory.mktemp("book")
    (root / "book" / "assignments").mkdir(parents=True)
    (root / "book" / "assignments" / "example.md").write_text(EXAMPLE.read_text())
    built = run(root, "build")
    assert built.returncode == 0, built.stderr
    return nbformat.read(root / "_build" / "assignments" / "release" / "example" / "example.ipynb", as_version=4)


@pytest.fixture(scope="module")
def graded(release, tmp_path_factory):
    """All attacks, a probe of the sandbox and unreadable files, graded as one batch beside a canary."""
    root = tmp_path_factory.mktemp("grading")
    canary = root / "canary.txt"
    canary.write_text("still here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = {"port": server.getsockname()[1], "canary": str(canary), "source": str(EXAMPLE), "pid": os.getpid()}
        probe = Attack("probe", law=PROBES.format(tools=str(ROOT / "tools/assignments/grading.py"), **where))
        folder = hand_in(root / "in", release, [*ATTACKS, probe])
        for name, data in BROKEN.items():
            (folder / f"{name}.ipynb").write_bytes(data or nbformat.writes(nbformat.v4.new_notebook()).encode())
        (folder / "nothing.ipynb").write_bytes(b"")
        told = run(root, "grade", EXAMPLE, folder, "--seed", "11")
    assert told.returncode == 0, told.stderr + told.stdout
    return root / "_build" / "grades" / "example", canary, told.stdout


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_an_attack_costs_its_author_what_it_should(graded, attack):
    row = rows(graded[0])[attack.name]
    points = json.loads(row["exercise 1"]), json.loads(row["exercise 2"])
    assert (row["status"].split(":")[0], points) == (attack.status, attack.points), row


@pytest.mark.parametrize("name", PROBED)
def test_the_sandbox_is_closed(graded, name):
    nb = (graded[0] / "course" / "autograded" / "probe" / "example" / "example.ipynb").read_text()
    assert f"{name}: blocked" in nb
    assert f"{name}: REACHED" not in nb


def test_nobody_else_is_touched(graded):
    out, canary, _ = graded
    assert canary.read_text() == "still here"
    assert rows(out)["good"]["total"] == "7.0"
    assert not list(Path(tempfile.gettempdir()).glob("jail*/kernel.json"))


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_file_is_listed_and_never_a_zero(graded, name):
    row = rows(graded[0])[name]
    assert row["status"].startswith("unreadable: ") and row["total"] == ""
    assert f"  {name}: unreadable" in (graded[0] / "report.txt").read_text()


def test_the_report_says_how_it_was_graded(graded):
    out, _, printed = graded
    report = (out / "report.txt").read_text()
    assert "sandbox: bubblewrap" in report and "seed: 11" in report and "  cube: " in report
    assert report in printed
    assert "  exit: stopped: Kernel died" in report


def test_feedback_shows_verdicts_and_runs_nothing(graded):
    pages = {p.stem: p.read_text() for p in (graded[0] / "feedback").glob("*.html")}
    assert pages.keys() == {a.name for a in ATTACKS} | {"probe"}
    assert "right: 3 of 3 points" in pages["good"]
    assert "no answer was submitted" in pages["empty"]
    assert "secret" not in pages["empty"].split("</style>")[-1].lower()  # a word of every solution of the example
    assert "<script>stolen()</script>" not in pages["noise"]
    assert "<script>alert(1)</script>" not in pages["copied"]
    assert len(pages["noise"]) < 4 << 20
    shown = f'<img alt="page" src="data:image/png;base64,{attacks.PIXEL}"/> <span class="math"><mjx-container'
    assert shown in pages["pasted"] and "![gone](attachment:gone.png)" in pages["pasted"]
    assert "<code>\\href{javascript:alert(1)}x</code>" in pages["pasted"] and "<code>\\def" in pages["pasted"]
    for page in pages.values():
        assert "<script" not in page and "script-src 'none'" in page.split("<title>")[0]
        assert re.findall(r"""(?:src=|url\()["']?(https?:[^"')]*)""", page) == []
    assert '<a href="#submit-cube">Exercise 2: cube</a> (Score: 4.0 / 4.0)' in pages["pasted"]
    assert '<a href="#written-why-odd">Exercise 2: why-odd</a> (not yet marked, 2 points)' in pages["pasted"]
    assert "(Score: 7.0 / 9.0, 2 points not yet marked)" in pages["pasted"]


def test_loops_cost_their_cell_and_the_batch_goes_on(release, tmp_path):
    folder = hand_in(tmp_path / "in", release, LOOPS)
    told = run(tmp_path, "grade", EXAMPLE, folder, "--seconds", 15, 120)
    assert told.returncode == 0, told.stderr
    found = rows(tmp_path / "_build" / "grades" / "example")
    for attack in LOOPS:
        row = found[attack.name]
        points = json.loads(row["exercise 1"]), json.loads(row["exercise 2"])
        assert (row["status"].split(":")[0], points) == (attack.status, attack.points)


def test_an_ordinary_user_grades_and_marks_are_entered(release, tmp_path):
    open_above(tmp_path)
    probe = PROBES.format(tools="/", source=str(EXAMPLE), canary=str(EXAMPLE), pid=os.getpid(), port=1)
    wrote = Attack("good", edit=lambda nb: attacks.cell(nb, "written-why-odd").update(source="A sign for each factor."))
    folder = hand_in(tmp_path / "in", release, [wrote, Attack("probe", law=probe)])
    told = run(tmp_path, "grade", EXAMPLE, folder, user=True)
    assert told.returncode == 0, told.stderr
    out = tmp_path / "_build" / "grades" / "example"
    good = rows(out)["good"]
    assert (good["total"], good["still to mark"], good["sandbox"]) == ("7.0", "2", "bubblewrap (user namespace)")
    probed = (out / "course" / "autograded" / "probe" / "example" / "example.ipynb").read_text()
    assert [name for name in PROBED if f"{name}: blocked" not in probed] == []

    (folder / "probe.ipynb").unlink()
    marked = (out / "to-mark.csv").read_text().replace("good,why-odd,2,,", "good,why-odd,2,1.5,nearly")
    (folder / "marks.csv").write_text(marked.replace("probe", "absent"))
    told = run(tmp_path, "grade", EXAMPLE, folder, user=True)
    assert told.returncode == 0, told.stderr
    good = rows(out)["good"]
    assert (good["total"], good["by hand"], good["still to mark"]) == ("8.5", "1.5", "0")
    assert "nearly" in (out / "feedback" / "good.html").read_text()


# --- before the first submission ---------------------------------------------------------------------------


@pytest.fixture
def batch(release, tmp_path) -> Path:
    return hand_in(tmp_path / "in", release, [Attack("good")])


@pytest.mark.skipif(os.getuid() != 0, reason="only root is refused")
def test_root_cannot_do_without_a_sandbox(batch, tmp_path):
    told = run(tmp_path, "grade", EXAMPLE, batch, "--unsafe")
    assert told.returncode == 2 and "as root: start the command as an ordinary user" in told.stderr
    assert not (tmp_path / "_build").exists()


def test_without_a_sandbox_the_limits_hold_and_every_report_says_so(release, tmp_path):
    open_above(tmp_path)
    greedy = Attack("greedy", law="bytearray(3 << 30)")
    folder = hand_in(tmp_path / "in", release, [Attack("good"), greedy])
    told = run(tmp_path, "grade", EXAMPLE, folder, "--unsafe", user=True)
    assert told.returncode == 0, told.stderr
    out = tmp_path / "_build" / "grades" / "example"
    found = rows(out)
    assert {name: row["automatic"] for name, row in found.items()} == {"good": "7.0", "greedy": "4.0"}
    assert all(row["sandbox"].startswith("UNSAFE: ") for row in found.values())
    assert "sandbox: UNSAFE: limits only" in (out / "report.txt").read_text() and "sandbox: UNSAFE" in told.stdout
    assert "MemoryError" in (out / "feedback" / "greedy.html").read_text()


def test_a_missing_sandbox_is_said_before_the_first_submission(batch, tmp_path):
    old = tmp_path / "_build" / "grades" / "example" / "grades.csv"
    old.parent.mkdir(parents=True)
    old.write_text("an older result")
    told = run(tmp_path, "grade", EXAMPLE, batch, path="/nonexistent")
    assert told.returncode == 2 and "bubblewrap is not installed: apt install bubblewrap" in told.stderr
    assert old.read_text() == "an older result" and [*old.parent.iterdir()] == [old]


def test_a_broken_sandbox_is_said_too(batch, tmp_path):
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho no namespaces here >&2\nexit 1\n")
    fake.chmod(0o755)
    told = run(tmp_path, "grade", EXAMPLE, batch, path=f"{fake.parent}:{os.environ['PATH']}")
    assert told.returncode == 2 and "no namespaces here" in told.stderr
    assert not (tmp_path / "_build").exists()


def test_a_kernel_that_never_starts_is_no_zero(batch, tmp_path):
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\ncase "$*" in *ipykernel*) exit 1;; *) echo 1000000;; esac\n')
    fake.chmod(0o755)
    told = run(tmp_path, "grade", EXAMPLE, batch, path=f"{fake.parent}:{os.environ['PATH']}")
    assert told.returncode == 1 and "the kernel did not start in the sandbox" in told.stderr
    assert not (tmp_path / "_build").exists()


def test_two_submissions_of_one_student_are_an_error(batch, tmp_path):
    (batch / "Good").mkdir()
    (batch / "Good" / "homework.ipynb").write_text("{}")
    told = run(tmp_path, "grade", EXAMPLE, batch)
    assert told.returncode == 1 and "two submissions of the student" in told.stderr


def test_the_same_build_gives_the_same_bytes(release, tmp_path):
    def build(name: str) -> dict[str, str]:
        folder = tmp_path / name / "book" / "assignments"
        folder.mkdir(parents=True)
        (folder / "example.md").write_text(EXAMPLE.read_text())
        assert run(tmp_path / name, "build").returncode == 0
        out = tmp_path / name / "_build" / "assignments"
        return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*.*")}

    first = build("one")
    assert first == build("two")
    assert {"release/example.zip", "source/example.zip", "solutions/example.zip", "README.md"} <= first.keys()
    zipped = zipfile.ZipFile(tmp_path / "one" / "_build" / "assignments" / "release" / "example.zip").namelist()
    assert zipped == ["example/example.ipynb"]
