"""What students handed in: found, read, and put back into the frame of the release.

Only the text of cells is taken over. Everything else in a submitted file, such as points, locks, outputs and which
kernel to run, is the release's.
"""

import copy
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.notebooks import ToolError

LARGEST = 20 << 20  # bytes of a notebook
MOST_CELLS = 1000


@dataclass(frozen=True)
class Submission:
    """One student's file: its bytes, or why there are none."""

    student: str
    data: bytes
    problem: str = ""


def files(path: Path) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Every notebook below a folder or in a zip, as (relative path, bytes); None for one that is too large."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            inside = PurePosixPath(file.relative_to(path).as_posix())
            if file.suffix == ".zip" and len(inside.parts) == 1:
                yield from files(file)
            elif file.suffix == ".ipynb" and file.is_file() and not file.is_symlink():
                yield inside, file.read_bytes() if file.stat().st_size <= LARGEST else None
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if e.filename.endswith(".ipynb")]
            names = [PurePosixPath(e.filename) for e in entries]
            around = {n.parts[0] for n in names} if len(names) > 1 and all(len(n.parts) > 1 for n in names) else set()
            for entry, name in sorted(zip(entries, names, strict=True), key=lambda pair: str(pair[1])):
                name = PurePosixPath(*name.parts[1:]) if len(around) == 1 else name  # one folder around everything
                yield name, archive.read(entry) if entry.file_size <= LARGEST else None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ToolError(f"{path}: this zip cannot be read: {error}") from None


def collect(path: Path) -> list[Submission]:
    """The submissions of `<student>.ipynb`, `<student>/<anything>.ipynb` or zips of these, by student.

    ToolError when there is none, when two students have the same name, or when a name cannot be kept.
    """
    if not path.exists():
        raise ToolError(f"SUBMITTED={path} does not exist")
    found: dict[str, list[bytes | None]] = {}
    origin: dict[str, tuple[str, str]] = {}
    for name, data in files(path):
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        if hidden or "-checkpoint" in name.stem:
            continue
        student, where = (name.parts[0], "folder") if len(name.parts) > 1 else (name.stem, "file")
        if student.strip() != student or re.search(r"[*?\[\]\\\x00-\x1f]", student):
            raise ToolError(f"the student's name {student!r} has characters that no name can have here; rename it")
        if origin.setdefault(student.casefold(), (student, where)) != (student, where) or (
            where == "file" and student in found
        ):
            raise ToolError(f"there are two submissions of the student '{student}'")
        found.setdefault(student, []).append(data)
    if not found:
        raise ToolError(f"SUBMITTED={path} holds no notebook: wanted <student>.ipynb, <student>/<any>.ipynb or a zip")
    submissions = []
    for student, copies in sorted(found.items()):
        problem = f"{len(copies)} notebooks" if len(copies) > 1 else "too large" if copies[0] is None else ""
        submissions.append(Submission(student, copies[0] or b"", problem))
    return submissions


def restore(release: NotebookNode, submission: Submission) -> NotebookNode:
    """The release with the student's answers and own cells; ValueError, with the reason, for an unreadable file.

    A known cell keeps its place and, unless it is an answer, its source; cells that the student added stand after
    the known cell that they followed.
    """
    if submission.problem:
        raise ValueError(submission.problem)
    try:
        theirs = nbformat.reads(submission.data.decode("utf-8"), as_version=4)
        cells = [
            (str(c.metadata.get("nbgrader", {}).get("grade_id", "")), c.cell_type, str(c.source)) for c in theirs.cells
        ]
    except Exception as error:
        raise ValueError(f"not a notebook: {type(error).__name__}") from None
    if len(cells) > MOST_CELLS:
        raise ValueError(f"{len(cells)} cells, more than {MOST_CELLS}")
    known = {c.metadata.nbgrader.grade_id: c for c in release.cells if "nbgrader" in c.metadata}
    if not any(name in known for name, _, _ in cells):
        raise ValueError("not this set: no cell of the release is in it")
    free = {c.source for c in release.cells if "nbgrader" not in c.metadata}
    answers: dict[str, str] = {}
    added: dict[str, list[NotebookNode]] = {}
    last = ""
    for name, kind, source in cells:
        if name in known and name not in answers:
            answers[name], last = source, name
        elif kind == "code" and source not in free:
            added.setdefault(last, []).append(new_code_cell(source))
        elif kind == "markdown" and source not in free:
            added.setdefault(last, []).append(new_markdown_cell(source))
    nb = copy.deepcopy(release)
    nb.cells = list(added.get("", []))
    for cell in copy.deepcopy(release.cells):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers.get(name, "")
        nb.cells += [cell, *(added.get(name, []) if name else [])]
    return nb
