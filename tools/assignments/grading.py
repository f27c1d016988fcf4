"""Grade a batch: nbgrader with a jailed kernel; answers are read from the notebook and checked outside of it."""

import hashlib
import json
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    GetGrades,
    IgnorePattern,
    LimitOutput,
    NbGraderPreprocessor,
    SaveAutoGrades,
)  # fmt: skip
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from symlib.answers import MIME
from tools import notebooks
from tools.assignments.checking import NO_ANSWER, Checker
from tools.assignments.feedback import SafeOutputs, finished, safe_markdown
from tools.assignments.jail import Jail
from tools.assignments.kernels import Events, JailedExecute
from tools.assignments.notebooks import graded_name, grader, release
from tools.assignments.source import FRESH, ProblemSet
from tools.assignments.submissions import Submission, restore
from tools.notebooks import ToolError

ANSWER_BYTES = 1 << 20
Marks = dict[tuple[str, str], tuple[float, str]]  # by student and written cell: points and a comment


@dataclass(frozen=True)
class Limits:
    """Seconds for a cell, for a notebook, and for checking one answer."""

    cell: int = 30
    notebook: int = 300
    check: float = 20


@dataclass(frozen=True)
class Grade:
    """One student: status, points of each submit and written cell (None: to be marked), feedback page."""

    student: str
    status: str
    points: dict[str, float | None]
    feedback: str = ""


def fresh_number(seed: int, name: str) -> int:
    """The number that makes the inputs of a submit cell secret, the same for every student of a batch."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big") >> 1


class DrawInputs(NbGraderPreprocessor):
    """Put the grader's number into the submit cells that ask for one."""

    seed: int

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> tuple[NotebookNode, Any]:
        if name := graded_name(cell, "submit"):
            cell.source = re.sub(FRESH, f"fresh = {fresh_number(self.seed, name)}", cell.source, count=1)
        return cell, resources


class GradeOutside(NbGraderPreprocessor):
    """Read the one answer that a submit cell shows, check it here, and show the verdict instead.

    nbgrader then scores what stands there: an error loses the points, anything else keeps them.
    """

    seed: int
    checker: Checker

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> tuple[NotebookNode, Any]:
        if name := graded_name(cell, "submit"):
            answer, problem = answer_of(cell)
            fresh = fresh_number(self.seed, name) if cell.source.startswith("fresh = ") else 0
            wrong = problem or self.checker.verdict(name, answer, fresh)
            points = cell.metadata.nbgrader.points
            right = new_output("stream", name="stdout", text=f"right: {points} of {points} points\n")
            lines = f"0 of {points} points: {wrong}"
            failed = new_output("error", ename="Not right", evalue=lines, traceback=[lines])
            cell.outputs = [*(failed_output(cell) if wrong else []), failed if wrong else right]
        return cell, resources


def failed_output(cell: NotebookNode) -> list[NotebookNode]:
    """The student's own error, which explains why there is no answer."""
    return [o for o in cell.outputs if o.output_type == "error"][:1]


def answer_of(cell: NotebookNode) -> tuple[object, str]:
    """The answer in the outputs of a submit cell, or what is wrong with them."""
    shown = [o.data[MIME] for o in cell.outputs if o.output_type == "display_data" and MIME in o.get("data", {})]
    if not shown:
        return None, NO_ANSWER
    if len(shown) > 1 or not isinstance(shown[0], dict) or set(shown[0]) != {"answer"}:
        return None, "the cell did not submit exactly one answer"
    if len(json.dumps(shown[0])) > ANSWER_BYTES:
        return None, f"the answer is longer than {ANSWER_BYTES} bytes"
    return shown[0]["answer"], ""


def settings(jail: Jail, limits: Limits, seed: int, checker: Checker, events: Events) -> Config:
    """nbgrader's configuration for one batch."""
    base = {"jail": jail, "python": sys.executable, "wall": limits.notebook, "events": events}
    execute = type("JailedExecute", (JailedExecute,), base)
    draw = type("DrawInputs", (DrawInputs,), {"seed": seed})
    outside = type("GradeOutside", (GradeOutside,), {"seed": seed, "checker": checker})
    c = Config()
    c.Autograde.autograde_preprocessors = [
        draw, execute, outside, IgnorePattern, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata,
    ]  # fmt: skip
    c.Execute.timeout = c.JailedExecute.timeout = limits.cell
    c.JailedExecute.startup_timeout = 120
    c.OverwriteCells.add_missing_cells = True
    c.GenerateFeedback.preprocessors = [GetGrades, CSSHTMLHeaderPreprocessor, SafeOutputs]
    c.SafeOutputs.enabled = True  # nbconvert leaves it off
    c.HTMLExporter.filters = {"markdown2html": safe_markdown}
    return c


def grade(
    problems: ProblemSet, submissions: list[Submission], course: Path, *,
    jail: Jail, seed: int, limits: Limits, marks: Marks,
) -> tuple[list[Grade], str]:  # fmt: skip
    """Grade every submission in an empty course folder; the grades and nbgrader's log.

    ToolError when the machinery fails, never a zero for it.
    """
    warnings.simplefilter("ignore", SAWarning)  # nbgrader's own use of its database
    frame, events, grades, logs = release(problems, course), Events(), [], []
    with Checker(problems, limits.check) as checker:
        api = grader(course, settings(jail, limits, seed, checker, events))
        for submission in submissions:
            try:
                nb = restore(frame, submission)
            except ValueError as error:
                grades.append(Grade(submission.student, f"unreadable: {error}", {}))
                print(f"  {submission.student}: {grades[-1].status}", flush=True)
                continue
            path = course / "submitted" / submission.student / problems.name / f"{problems.name}.ipynb"
            notebooks.write_atomic(path, nbformat.writes(nb))
            told = api.autograde(problems.name, submission.student)
            logs.append(f"--- {submission.student}\n{told.get('log', '')}{told.get('error', '')}")
            if not told["success"] or events.failures:
                raise ToolError(f"grading {submission.student} failed\n" + "\n".join([*events.failures, logs[-1]]))
            enter(course, problems, submission.student, marks)
            told = api.generate_feedback(problems.name, submission.student)
            logs.append(f"{told.get('log', '')}{told.get('error', '')}")
            page = course / "feedback" / submission.student / problems.name / f"{problems.name}.html"
            found, text = points(course, problems, submission.student), ""
            stopped = events.stopped.get(submission.student)
            status = f"stopped: {stopped}" if stopped else "graded"
            if told["success"]:
                text = finished(page.read_text(encoding="utf-8"), problems, found)
            else:
                status += ", but without a feedback page: see log.txt"
            grades.append(Grade(submission.student, status, found, text))
            print(f"  {submission.student}: {status}", flush=True)
    return grades, "\n".join(logs)


def enter(course: Path, problems: ProblemSet, student: str, marks: Marks) -> None:
    """Write the marks given by hand to one student into the gradebook; text left as it was gets none."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "book") as book:
        for cell in problems.kind("written"):
            if (student, cell.name) in marks:
                mark, comment = marks[student, cell.name]
                where = (f"written-{cell.name}", problems.name, problems.name, student)
                given: Any = book.find_grade(*where)
                given.manual_score, given.needs_manual_grade = mark, False
                remark: Any = book.find_comment(*where)
                remark.manual_comment = comment or None
        book.db.commit()


def points(course: Path, problems: ProblemSet, student: str) -> dict[str, float | None]:
    """The points of each graded cell from the gradebook; None where a mark is to be given by hand."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "book") as book:
        found: dict[str, float | None] = {}
        for cell in problems.kind("submit", "written"):
            given: Any = book.find_grade(f"{cell.kind}-{cell.name}", problems.name, problems.name, student)
            waiting = cell.kind == "written" and given.needs_manual_grade
            if not waiting and given.auto_score is None and given.manual_score is None:
                raise ToolError(f"{student}: nbgrader recorded no score for '{cell.name}'")
            found[cell.name] = None if waiting else float(given.score)
        return found


def course_folder() -> tempfile.TemporaryDirectory:
    """A folder for nbgrader with a plain name, since it treats names as patterns."""
    return tempfile.TemporaryDirectory(prefix="course")
