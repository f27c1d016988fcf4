"""The tools on small synthetic books: clean, chapter, run, resume after a kill, and the incremental site."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import book, chapter, notebooks, run
from tools.notebooks import ROOT, ToolError

HEAD = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A chapter

```{code-cell} ipython3
:tags: [parameters]

profile = "quick"
device = "auto"
seed = 0
```
"""


def make_book(root: Path, **chapters: str) -> Path:
    """A book with one part; each keyword is a chapter and the source of its one further code cell."""
    (root / "book" / "part").mkdir(parents=True)
    (root / "requirements.txt").write_text("pinned==1\n")
    toc = "format: jb-book\nroot: book/index\nparts:\n- caption: Part\n  chapters:\n"
    toc += "".join(f"  - file: book/part/{name}.ipynb\n" for name in chapters)
    (root / "_toc.yml").write_text(toc if chapters else "format: jb-book\nroot: book/index\n")
    for name, source in chapters.items():
        code = f"\n```{{code-cell}} ipython3\n{textwrap.dedent(source).strip()}\n```\n"
        (root / "book" / "part" / f"{name}.md").write_text(HEAD + code)
    return root


def run_main(root: Path, *arguments: str) -> int:
    return run.main(["--root", str(root), *arguments])


def output(root: Path, name: str, profile: str = "quick") -> Path:
    return root / "_build" / "run" / profile / "part" / f"{name}.ipynb"


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream")


# --- which chapters there are ------------------------------------------------------------------------------


def test_a_chapter_is_named_in_full_or_by_its_last_part(tmp_path):
    known = notebooks.chapters(make_book(tmp_path, alpha="1", beta="2"))
    assert [c.name for c in notebooks.choose(known, "")] == ["part/alpha", "part/beta"]
    assert [c.name for c in notebooks.choose(known, "beta, part/alpha beta")] == ["part/beta", "part/alpha"]
    assert [c.name for c in notebooks.choose(known, "book/part/beta.md")] == ["part/beta"]


def test_an_unknown_or_ambiguous_chapter_is_an_error_that_names_the_known(tmp_path):
    known = [notebooks.Chapter(tmp_path, name, "") for name in ("a/one", "b/one", "b/two")]
    with pytest.raises(ToolError, match=r"C=three is no chapter of _toc.yml; known: a/one, b/one, b/two"):
        notebooks.choose(known, "two three")
    with pytest.raises(ToolError, match="C=one names 2 chapters"):
        notebooks.choose(known, "one")


def test_a_chapter_without_source_is_an_error(tmp_path):
    with pytest.raises(ToolError, match=r"a/b: _toc.yml names it, but .* does not exist"):
        notebooks.read_source(notebooks.Chapter(tmp_path, "a/b", ""))


# --- clean and refresh -------------------------------------------------------------------------------------


def stream(text: str):
    return new_output("stream", name="stdout", text=text)


def executed():
    """A notebook as papermill leaves it."""
    cells = [
        new_code_cell("x = 1", execution_count=1, metadata={"papermill": {"duration": 1}, "tags": []}),
        new_code_cell("x = 2", execution_count=2, metadata={"tags": ["injected-parameters"]}),
        new_code_cell("x", execution_count=3, metadata={"execution": {"iopub.status.busy": "now"}}),
        new_code_cell("x", execution_count=4, outputs=[stream("a"), stream("b")]),
    ]
    cells[2].outputs = [new_output("execute_result", data={"text/plain": "1"}, execution_count=3)]
    metadata = {"papermill": {"start_time": "now"}, "language_info": {"name": "python", "version": "3.11.7"}}
    return new_notebook(cells=cells, metadata=metadata)


def test_clean_keeps_the_content_and_drops_the_run():
    nb = notebooks.clean(executed())
    assert [c.source for c in nb.cells] == ["x = 1", "x", "x"]
    assert [c.execution_count for c in nb.cells] == [1, 2, 3]
    assert nb.cells[1].outputs[0].execution_count == 2
    assert [o.text for o in nb.cells[2].outputs] == ["ab"]
    assert all(c.metadata == {} for c in nb.cells)
    assert "papermill" not in nb.metadata and "version" not in nb.metadata.language_info


def test_cell_ids_are_made_from_content():
    first, second = notebooks.clean(executed()), notebooks.clean(executed())
    assert [c.id for c in first.cells] == [c.id for c in second.cells]
    assert len({c.id for c in first.cells}) == 3, "two equal cells still have two ids"


def test_clean_is_idempotent_and_leaves_its_argument_alone():
    nb = executed()
    before = nbformat.writes(nb)
    once = notebooks.clean(nb)
    assert nbformat.writes(nb) == before
    assert notebooks.to_json(notebooks.clean(once)) == notebooks.to_json(once)


def test_refreshing_twice_changes_no_byte(tmp_path):
    source = """
        import sys
        for k in range(50):
            print(k, flush=True)
        print(profile, seed)
    """
    [known] = notebooks.chapters(make_book(tmp_path, alpha=source))
    assert chapter.refresh(known)
    first = known.notebook.read_bytes()
    assert not chapter.refresh(known)
    assert known.notebook.read_bytes() == first
    assert printed(known.notebook).endswith("49\nquick 0\n")


def test_a_failing_chapter_is_not_written_and_says_where(tmp_path, capsys):
    [known] = notebooks.chapters(make_book(tmp_path, alpha="x = 1\nassert x == 2, 'wanted 2'"))
    known.notebook.write_text("old")
    assert chapter.main(["alpha", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "code cell 2 (book/part/alpha.md:19): assert x == 2" in said
    assert "AssertionError: wanted 2" in said and "\x1b" not in said
    assert known.notebook.read_text() == "old"
    assert sorted(p.name for p in known.notebook.parent.iterdir()) == ["alpha.ipynb", "alpha.md"]


def test_chapter_wants_a_chapter(tmp_path, capsys):
    make_book(tmp_path, alpha="1")
    assert chapter.main(["", "--root", str(tmp_path)]) == 1
    assert "known: part/alpha" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        notebooks.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- run: what is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "huge"], "PROFILE=huge is no profile; known: quick, full"),
        (["--chapters", "gamma"], "C=gamma is no chapter of _toc.yml; known: part/alpha"),
        (["--parameters", "sed=3"], "part/alpha has no parameter 'sed'; it has: profile, device, seed"),
        (["--parameters", "seed=three"], "part/alpha: parameter 'seed' is of type int, got 'three'"),
        (["--parameters", "seed"], "P: wanted name=value, got 'seed'"),
        (["--parameters", "profile=full"], "P: the profile is chosen with PROFILE=full"),
        (["--jobs", "0"], "J: wanted a positive number of workers, got '0'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(tmp_path, capsys, arguments, says):
    make_book(tmp_path, alpha="1")
    assert run_main(tmp_path, *arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "_build").exists()


def test_parameters_take_the_type_of_their_default():
    known = {"rate": 0.5, "seed": 0, "device": "auto", "flag": False, "free": None}
    given = {"rate": "1", "seed": "3", "device": "3", "flag": "True", "free": "[1, 2]"}
    values = {name: notebooks.convert("c", name, text, known) for name, text in given.items()}
    assert values == {"rate": 1.0, "seed": 3, "device": "3", "flag": True, "free": [1, 2]}
    assert [type(v) for v in values.values()] == [float, int, str, bool, list]
    with pytest.raises(ToolError, match="of type int, got"):
        notebooks.convert("c", "seed", "0.5", known)


def test_the_key_depends_on_source_symlib_versions_and_parameters(tmp_path):
    [known] = notebooks.chapters(make_book(tmp_path, alpha="1"))
    keys = [run.run_key(known, {"seed": 0}), run.run_key(known, {"seed": 1})]
    (tmp_path / "symlib" / "measures").mkdir(parents=True)
    for path in ("symlib/measures/rank.py", "requirements.txt", "book/part/alpha.md"):
        (tmp_path / path).write_text("changed")
        keys.append(run.run_key(known, {"seed": 0}))
    assert len(set(keys)) == 5
    assert run.run_key(known, {"seed": 0}) == keys[-1]


# --- run: what happens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["3", None])
def test_a_failing_chapter_shows_its_cell_and_the_others_go_on(given, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    source = "import os\nprint(profile, seed, os.environ['OMP_NUM_THREADS'], os.getcwd())"
    make_book(tmp_path, broken="x = 1\nraise ValueError(f'x is {x}')", sound=source)
    assert run_main(tmp_path, "--profile", "full", "--jobs", "2", "--parameters", "seed=3") == 1
    said = capsys.readouterr().out
    assert "code cell 2 (book/part/broken.md:19): raise ValueError(f'x is {x}')\n    ValueError: x is 1" in said
    assert "\x1b" not in said
    assert re.search(
        r"chapter +status +seconds\npart/broken +failed +\d+\.\d\npart/sound +done +\d+\.\d$", said.strip()
    )
    threads = given or max(1, (os.cpu_count() or 1) // 2)
    assert printed(output(tmp_path, "sound", "full")) == f"full 3 {threads} {tmp_path / 'book' / 'part'}\n"
    folder = output(tmp_path, "broken", "full").parent
    assert sorted(p.name for p in folder.iterdir()) == ["broken.failed.ipynb", "sound.ipynb"]

    assert run_main(tmp_path, "--profile", "full", "--parameters", "seed=3", "--chapters", "sound") == 0
    assert "[1/1] part/sound  up to date" in capsys.readouterr().out
    assert run_main(tmp_path, "--profile", "full", "--parameters", "seed=4", "--chapters", "sound") == 0
    assert "[1/1] part/sound  done" in capsys.readouterr().out


def test_a_worker_that_dies_is_a_failure_of_its_chapter_only(tmp_path, capsys):
    make_book(tmp_path, alpha="import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", beta="1")
    assert run_main(tmp_path, "--jobs", "1") == 1
    said = capsys.readouterr().out
    assert "the worker ended with status -9" in said and re.search(r"part/beta +done", said)


def test_half_written_and_foreign_notebooks_are_never_taken_for_finished(tmp_path):
    make_book(tmp_path, alpha="1")
    [job] = run.plan(tmp_path, "quick", "", "")
    job.output.parent.mkdir(parents=True)
    sound = new_notebook(metadata={"symlib_run": {"key": job.key, "seconds": 2.5}})
    text = notebooks.to_json(sound)
    job.output.write_text(text)
    assert run.finished(job) == 2.5
    for mutant in (text[: len(text) // 2], "", "{}", text.replace(job.key, "0" * 64), "[1]"):
        job.output.write_text(mutant)
        assert run.finished(job) is None, mutant


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_a_second_run_leaves_the_temporaries_of_a_first_alone(tmp_path):
    partial = tmp_path / "part" / ".alpha.1.partial.ipynb"
    partial.parent.mkdir()
    partial.touch()
    with (tmp_path / ".lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_SH)
        with run.shared_lock(tmp_path):
            assert partial.exists()
    assert partial.exists()
    with run.shared_lock(tmp_path):
        assert not partial.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["the whole group", "the parent only"])
def test_after_kill_9_the_run_goes_on_where_it_was(tmp_path, kill):
    waits = """
        import os, pathlib, time
        pathlib.Path("pids").write_text(f"{os.getppid()} {os.getpid()}")
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        print("went on")
    """
    make_book(tmp_path, first="print('first')", second=waits)
    command = [sys.executable, "-m", "tools.run", "--root", str(tmp_path), "--jobs", "1"]
    folder = tmp_path / "book" / "part"
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: process.poll() or ((folder / "pids").exists() and (folder / "pids").read_text()))
        kill(process.pid, signal.SIGKILL)
    finished = output(tmp_path, "first").read_bytes()
    assert not output(tmp_path, "second").exists()
    assert list(output(tmp_path, "second").parent.glob(".second.*.partial.ipynb")), "nothing was under way"
    worker, kernel = map(int, (folder / "pids").read_text().split())
    wait_for(lambda: not alive(worker) and not alive(kernel), 10)

    (folder / "go").touch()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "[1/2] part/first  up to date" in again.stdout and "[2/2] part/second  done" in again.stdout
    assert output(tmp_path, "first").read_bytes() == finished
    assert printed(output(tmp_path, "second")) == "went on\n"
    assert sorted(p.name for p in folder.parent.parent.glob("_build/run/quick/part/*")) == [
        "first.ipynb",
        "second.ipynb",
    ]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_an_interrupt_ends_the_workers_and_says_how_to_go_on(tmp_path):
    source = "import pathlib, os, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)"
    make_book(tmp_path, alpha=source)
    command = [sys.executable, "-m", "tools.run", "--root", str(tmp_path)]
    pid = tmp_path / "book" / "part" / "pid"
    with subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: process.poll() or (pid.exists() and pid.read_text()))
        os.killpg(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 130
    assert re.search(r"part/alpha +not run", out)
    assert err == "interrupted; the same command goes on from here\n"
    wait_for(lambda: not alive(int(pid.read_text())), 10)
    assert list((tmp_path / "_build").rglob("*.ipynb")) == []


# --- the site is rebuilt when something changed, and never passes over a page that warned ------------------


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A book whose builder notes that it was called, and fails when a page holds the word WARN."""
    make_book(tmp_path)
    (tmp_path / "_config.yml").write_text("title: A book\n")
    (tmp_path / "book" / "index.md").write_text("# Home\n")
    (tmp_path / "book" / "_static").mkdir()
    (tmp_path / "book" / "_static" / "book.css").touch()
    calls: list[bool] = []

    def builder(root: Path) -> bool:
        calls.append((root / "_build" / "html").exists())
        (root / "_build" / "html").mkdir(parents=True, exist_ok=True)
        (root / "_build" / "html" / "index.html").touch()
        return "WARN" not in (root / "book" / "index.md").read_text()

    monkeypatch.setattr(book, "jupyter_book", builder)
    return tmp_path, calls


def test_nothing_is_built_when_nothing_changed(site):
    root, calls = site
    assert book.build(root) == book.build(root) == root / "_build" / "html" / "index.html"
    assert calls == [False]


def test_a_site_that_was_deleted_is_built_again(site):
    root, calls = site
    shutil.rmtree(book.build(root).parent)
    assert book.build(root).is_file() and calls == [False, False]


@pytest.mark.parametrize(
    ("path", "keeps_old"),
    [
        ("book/index.md", True),
        ("_toc.yml", False),
        ("requirements.txt", False),
        ("book/new.md", False),
        ("book/_static/book.css", False),
    ],
)
def test_a_changed_page_is_incremental_and_all_else_starts_afresh(site, path, keeps_old):
    root, calls = site
    book.build(root)
    with (root / path).open("a") as file:
        file.write("\n")
    book.build(root)
    assert calls == [False, keeps_old]


def test_after_a_failed_build_the_next_one_starts_afresh(site):
    root, calls = site
    book.build(root)
    page = root / "book" / "index.md"
    page.write_text("# WARN\n")
    for _ in range(2):
        with pytest.raises(ToolError, match="was not built"):
            book.build(root)
    assert calls == [False, True, False]
    page.write_text("# Home\n")
    book.build(root)
    assert calls == [False, True, False, False]
    assert json.loads((root / "_build" / "book.json").read_text()).keys() >= {"book/index.md"}
