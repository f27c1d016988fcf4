"""The notebooks made from a set: for students, for nbgrader, and for the instructor."""

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ComputeChecksums, LockCells, SaveCells
from traitlets.config import Config

from tools import notebooks
from tools.assignments.source import PRIVATE, Cell, ProblemSet
from tools.notebooks import ToolError

GRADER = {  # kind: nbgrader's flags (grade, solution, locked)
    "code": (False, False, True),
    "answer": (False, True, False),
    "written": (True, True, False),
    "submit": (True, False, True),
}


def grade_id(cell: Cell, position: int) -> str:
    """The name of a cell in nbgrader's records."""
    return f"{cell.kind}-{cell.name}" if cell.name else f"given-{position}"


def flags(cell: Cell, position: int) -> dict[str, Any]:
    """nbgrader's metadata of a cell, none for text and self-checks, which students may change."""
    if cell.kind not in GRADER:
        return {}
    grade, solution, locked = GRADER[cell.kind]
    points = {"points": cell.points} if grade else {}
    fixed = {"grade_id": grade_id(cell, position), "schema_version": 3, "task": False}
    return {"nbgrader": {"grade": grade, "solution": solution, "locked": locked, **fixed, **points}}


def notebook(cells: Iterable[tuple[str, str, dict[str, Any]]]) -> NotebookNode:
    """A notebook from (markdown or code, source, metadata), with ids that depend on nothing else."""
    nb = new_notebook(metadata={"kernelspec": notebooks.KERNEL, "language_info": notebooks.LANGUAGE})
    for i, (kind, source, metadata) in enumerate(cells):
        make = new_code_cell if kind == "code" else new_markdown_cell
        digest = hashlib.sha1(f"{i}\n{source}".encode()).hexdigest()[:8]
        nb.cells.append(make(source, metadata=nbformat.from_dict(metadata), id=digest))
    return nb


def kind_of(cell: Cell) -> str:
    return "code" if cell.is_code else "markdown"


def public(problems: ProblemSet) -> list[tuple[Cell, dict[str, Any]]]:
    """The cells that students see, with nbgrader's metadata."""
    cells = [c for c in problems.cells if c.kind not in PRIVATE]
    return [(cell, flags(cell, i)) for i, cell in enumerate(cells)]


def stripped(problems: ProblemSet) -> NotebookNode:
    """What students get, before nbgrader: solutions cut, private cells gone."""
    return notebook((kind_of(c), c.stub if c.kind == "answer" else c.source, meta) for c, meta in public(problems))


def source(problems: ProblemSet) -> NotebookNode:
    """nbgrader's source notebook: as released, with the solutions between their marks."""
    return notebook((kind_of(c), c.source, meta) for c, meta in public(problems))


def instructors(problems: ProblemSet) -> NotebookNode:
    """Everything in the order of the source: model answers, rubrics, checks, wrong and equivalent answers as text."""
    shown = []
    for cell in problems.cells:
        text = cell.source
        if cell.kind == "written":
            text = f"**Written answer, {cell.points} points, marked by hand.**"
        if cell.kind == "solution":
            text = f"**For the instructor.**\n\n{text}"
        if cell.kind in ("check", "wrong", "equivalent"):
            loses = f", which loses {', '.join(cell.loses)}" if cell.loses else ""
            about = (
                f"{cell.kind} answer for {cell.replaces}{loses}"
                if cell.replaces
                else "check, which only the grader has"
            )
            text = f"**{about[0].upper()}{about[1:]}:**\n\n```python\n{text}\n```"
        shown.append((kind_of(cell) if cell.kind not in PRIVATE else "markdown", text, {}))
    return notebook(shown)


def grader(course: Path, config: Config | None = None) -> NbGraderAPI:
    """nbgrader on a course folder; it calls alembic, which lies beside Python."""
    folder, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if folder not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, path])
    c = Config(config or {})
    c.CourseDirectory.root = str(course)
    c.CourseDirectory.course_id = "book"
    c.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    c.GenerateAssignment.preprocessors = [
        LockCells, ClearOutput, CheckCellMetadata, ComputeChecksums, SaveCells, CheckCellMetadata,
    ]  # fmt: skip
    c.NbGrader.logfile = c.NbGraderAPI.logfile = ""
    return NbGraderAPI(config=c)


def release(problems: ProblemSet, course: Path) -> NotebookNode:
    """Have nbgrader make the release in an empty course folder, with the gradebook that grading needs."""
    path = course / "source" / problems.name / f"{problems.name}.ipynb"
    notebooks.write_atomic(path, notebooks.to_json(stripped(problems)))
    told = grader(course).generate_assignment(problems.name)
    made = course / "release" / problems.name / f"{problems.name}.ipynb"
    if not told["success"] or not made.is_file():
        raise ToolError(f"{problems.name}: nbgrader made no release\n{told.get('error', '')}\n{told.get('log', '')}")
    return nbformat.read(made, as_version=4)


def graded_name(cell: NotebookNode, kind: str) -> str:
    """The name of a cell of this kind in a released notebook, or ''."""
    given = str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))
    return given.removeprefix(f"{kind}-") if re.match(rf"{kind}-.", given) else ""
