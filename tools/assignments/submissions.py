"""What students handed in: found, read, and put back into the frame of the release.

Only the text of cells is taken over, and pictures pasted into it. Everything else in a submitted file, such as points,
locks, outputs and which kernel to run, is the release's.
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

from tools.assignments.feedback import PICTURES
from tools.notebooks import ToolError

LARGEST = 20 << 20  # bytes of a notebook
MOST_CELLS = 1000


@dataclass(frozen=True)
class Submission:
    """One student's file: its bytes, or why there are none."""

    student: str
    data: bytes
    problem: str = ""


def hidden(name: PurePosixPath) -> bool:
    """What a system or Jupyter leaves beside the files of a person."""
    return any(part.startswith((".", "__MACOSX")) for part in name.parts) or "-checkpoint" in name.stem


def files(path: Path) -> Iterator[tuple[PurePosixPath, bytes | str]]:
    """Every notebook below a folder or in a zip, as (relative path, bytes or what is wrong with it).

    In a folder, a zip with one notebook is one student's, and so is every zip in a student's folder.
    """
    if not path.is_dir():
        yield from unzipped(path)
        return
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink()):
        inside = PurePosixPath(file.relative_to(path).as_posix())
        if hidden(inside):
            continue
        if file.suffix == ".ipynb":
            yield inside, file.read_bytes() if file.stat().st_size <= LARGEST else "too large"
        elif file.suffix == ".zip":
            try:
                found = list(unzipped(file))
            except ToolError:
                yield inside.with_suffix(".ipynb"), "the zip cannot be read"
                continue
            if len(inside.parts) > 1 or len(found) == 1:
                found = [(inside.with_suffix(".ipynb"), data) for _, data in found]
            yield from found


def unzipped(path: Path) -> Iterator[tuple[PurePosixPath, bytes | str]]:
    """The notebooks in a zip, without a folder that is around all of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [(PurePosixPath(e.filename), e) for e in archive.infolist() if e.filename.endswith(".ipynb")]
            entries = sorted(((n, e) for n, e in entries if not hidden(n)), key=lambda pair: pair[0])
            around = {n.parts[0] for n, _ in entries} if all(len(n.parts) > 1 for n, _ in entries) else set()
            for name, entry in entries:
                name = PurePosixPath(*name.parts[1:]) if len(entries) > 1 and len(around) == 1 else name
                yield name, archive.read(entry) if entry.file_size <= LARGEST else "too large"
    except Exception as error:  # whatever a stranger's file may do to the parser
        raise ToolError(f"{path}: this zip cannot be read: {error}") from None


def named(name: PurePosixPath) -> str:
    """The student whose file this is: the folder's name, or else the file's."""
    return name.parts[0] if len(name.parts) > 1 else name.stem


def left_aside(path: Path, batch: list[Submission]) -> list[str]:
    """The files in a folder or zip that are not read, of students who handed in nothing else."""
    students = {submission.student for submission in batch} | {"marks", "to-mark"}
    if path.is_dir():
        found = [PurePosixPath(p.relative_to(path).as_posix()) for p in path.rglob("*") if p.is_file()]
    else:
        with zipfile.ZipFile(path) as archive:
            found = [PurePosixPath(e.filename) for e in archive.infolist() if not e.is_dir()]
    read = {".ipynb", ".zip"} if path.is_dir() else {".ipynb"}
    others = [n for n in found if not hidden(n) and n.suffix not in read]
    return sorted(str(n) for n in others if not students & {named(n), named(PurePosixPath(*n.parts[1:]))})


def collect(path: Path) -> list[Submission]:
    """The submissions of `<student>.ipynb`, `<student>/<anything>.ipynb` or zips of these, by student.

    ToolError when there is none, when two students have the same name, or when a name cannot be kept.
    """
    if not path.exists():
        raise ToolError(f"SUBMITTED={path} does not exist")
    found: dict[str, list[bytes | str]] = {}
    origin: dict[str, tuple[str, str]] = {}
    for name, data in files(path):
        student, where = named(name), "folder" if len(name.parts) > 1 else "file"
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
        data, several = copies[0], f"{len(copies)} notebooks" if len(copies) > 1 else ""
        content, problem = (b"", data) if isinstance(data, str) else (data, "")
        submissions.append(Submission(student, content, several or problem))
    return submissions


def pictures(cell: NotebookNode) -> dict[str, dict[str, str]]:
    """The pictures pasted into a text cell, by name; anything else that is attached is left behind."""
    found: dict[str, dict[str, str]] = {}
    for name, kinds in cell.get("attachments", {}).items():
        kept = {kind: kinds[kind] for kind in PICTURES if re.fullmatch(r"[A-Za-z0-9+/=\s]+", str(kinds.get(kind, "")))}
        found |= {str(name): kept} if kept else {}
    return found


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
            (
                str(c.metadata.get("nbgrader", {}).get("grade_id", "")), c.cell_type,
                str(c.source).encode("utf-8", "replace").decode("utf-8"), pictures(c),
            )
            for c in theirs.cells
        ]  # fmt: skip
    except Exception as error:
        raise ValueError(f"not a notebook: {type(error).__name__}") from None
    if len(cells) > MOST_CELLS:
        raise ValueError(f"{len(cells)} cells, more than {MOST_CELLS}")
    known = {c.metadata.nbgrader.grade_id: c for c in release.cells if "nbgrader" in c.metadata}
    if not any(name in known for name, *_ in cells):
        raise ValueError("not this set: no cell of the release is in it")
    free = {c.source for c in release.cells if "nbgrader" not in c.metadata}
    answers: dict[str, tuple[str, dict[str, dict[str, str]]]] = {}
    added: dict[str, list[NotebookNode]] = {}
    last = ""
    for name, kind, source, pasted in cells:
        if name in known and name not in answers:
            answers[name], last = (source, pasted), name
        elif kind == "code" and source not in free:
            added.setdefault(last, []).append(new_code_cell(source))
        elif kind == "markdown" and source not in free:
            added.setdefault(last, []).append(new_markdown_cell(source, attachments=pasted))
    nb = copy.deepcopy(release)
    nb.cells = list(added.get("", []))
    for cell in copy.deepcopy(release.cells):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source, pasted = answers.get(name, ("", {}))
            if cell.cell_type == "markdown" and pasted:
                cell.attachments = pasted
        nb.cells += [cell, *(added.get(name, []) if name else [])]
    return nb
