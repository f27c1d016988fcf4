"""`make assignments`: every set for students, for nbgrader and for the instructor, each as notebook and zip.

`_build/assignments/release/<set>/` is what students get; `source` and `solutions` are not for them.
"""

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools import notebooks
from tools.assignments import notebooks as editions
from tools.assignments import reading
from tools.assignments.source import ProblemSet
from tools.notebooks import ToolError

DATE = (2026, 1, 1, 0, 0, 0)  # of every file in a zip, so that the same content is the same bytes
README = Path(__file__).with_name("README.md")


def archive(files: dict[str, bytes]) -> bytes:
    """A zip of these files that depends on nothing but them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            made.writestr(entry, files[name])
    return buffer.getvalue()


def executed(problems: ProblemSet) -> nbformat.NotebookNode:
    """The instructor's notebook after a run; ToolError when a cell of the reference fails."""
    nb = editions.instructors(problems)
    client = NotebookClient(nb, timeout=300, kernel_name="python3", allow_errors=True)
    client.execute()
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = cell.source.splitlines()[0]
                raise ToolError(f"{problems.name}: '{first}' fails in the reference: {output.ename}: {output.evalue}")
    return notebooks.clean(nb)


def release(problems: ProblemSet) -> dict[str, bytes]:
    """What students get: the notebook of a set by its name."""
    with tempfile.TemporaryDirectory(prefix="course") as course:
        return {f"{problems.name}.ipynb": notebooks.to_json(editions.release(problems, Path(course))).encode()}


def zipped(problems: ProblemSet, content: dict[str, bytes]) -> bytes:
    """The files of one edition in one folder."""
    return archive({f"{problems.name}/{file}": data for file, data in content.items()})


def handouts(root: Path) -> dict[str, bytes]:
    """What the site offers to students: the release of every set as a zip, by its name."""
    found = map(reading.read, reading.sets(root))
    return {f"{problems.name}.zip": zipped(problems, release(problems)) for problems in found}


def build(problems: ProblemSet) -> dict[str, bytes]:
    """Every file of a set by its path below `_build/assignments`."""
    name = problems.name
    source = notebooks.to_json(editions.source(problems)).encode()
    solved = notebooks.to_json(executed(problems)).encode()
    parts = {
        "release": release(problems),
        "source": {f"{name}.ipynb": source, "checks.py": problems.checks.encode()},
        "solutions": {f"{name}-solutions.ipynb": solved},
    }
    files = {f"{part}/{name}/{file}": data for part, content in parts.items() for file, data in content.items()}
    zips = {f"{part}/{name}.zip": zipped(problems, content) for part, content in parts.items()}
    return files | zips


def replace(folder: Path, files: dict[str, bytes]) -> None:
    """Put a folder with exactly these files in the place of an old one, in one step."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        for name, data in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def write(root: Path) -> Path:
    """Build the editions of all sets into `_build/assignments` and return it."""
    files = {"README.md": README.read_bytes()}
    for path in reading.sets(root):
        files |= build(reading.read(path))
    if len(files) == 1:
        raise ToolError(f"there is no set in {root / 'book' / 'assignments'}")
    out = root / "_build" / "assignments"
    out.parent.mkdir(exist_ok=True)
    replace(out, files)
    return out
