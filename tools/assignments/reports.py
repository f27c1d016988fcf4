"""What a graded batch leaves: grades, feedback, what is to be marked by hand, and a report of how it was graded."""

import csv
import io
from pathlib import Path

from tools.assignments.grading import Grade, Limits, Marks, fresh_number
from tools.assignments.jail import Jail
from tools.assignments.source import ProblemSet
from tools.notebooks import ToolError

COLUMNS = ["student", "cell", "possible", "points", "comment"]


def read_marks(path: Path, problems: ProblemSet) -> Marks:
    """Marks by (student, written cell) from a filled-in `to-mark.csv`; rows without points are skipped."""
    possible = {c.name: c.points for c in problems.kind("written")}
    marks: Marks = {}
    if not path.is_file():
        return marks
    try:
        lines = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ToolError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from None
    reader = csv.DictReader(io.StringIO(lines, newline=""), delimiter=max(",;\t", key=lines.partition("\n")[0].count))
    if missing := [name for name in COLUMNS[:4] if name not in (reader.fieldnames or [])]:
        raise ToolError(f"{path} has no column {', '.join(missing)}: wanted those of to-mark.csv")
    for row in reader:
        number, text = reader.line_num, (row.get("points") or "").strip()
        if not text:
            continue
        cell = row.get("cell") or ""
        try:
            given = float(text.replace(",", "."))
        except ValueError:
            given = -1.0
        if None in row:
            raise ToolError(f"{path}:{number}: more columns than the first line has; is a comma in it not quoted?")
        if cell not in possible or not 0 <= given <= possible[cell]:
            wanted = f"a written cell ({', '.join(possible)}) and points from 0 to its number"
            raise ToolError(f"{path}:{number}: wanted {wanted}, got '{cell}' and '{text}'")
        marks[(row.get("student") or "").removeprefix("'"), cell] = (given, row.get("comment") or "")
    return marks


def table(header: list[str], rows: list[list[object]]) -> str:
    """The rows as CSV; a text that a spreadsheet would take for a formula is quoted."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["'" + v if isinstance(v, str) and v[:1] in "=+-@" and v else v for v in row] for row in rows])
    return buffer.getvalue()


def grades_csv(problems: ProblemSet, grades: list[Grade], jail: Jail) -> str:
    """One row a student: points of each exercise so far, by hand still to come, total, possible."""
    header = ["student", "status", *(f"exercise {e.number}" for e in problems.exercises)]
    header += ["automatic", "by hand", "still to mark", "total", "possible", "sandbox"]
    rows: list[list[object]] = []
    kinds = {c.name: (c.kind, c.points) for c in problems.kind("submit", "written")}
    for grade in grades:
        row: list[object] = [grade.student, grade.status]
        if not grade.points:
            rows.append([*row, *[""] * (len(header) - 4), problems.points, jail.name])
            continue
        row += [sum(grade.points[c.name] or 0 for c in e.cells) for e in problems.exercises]
        given = {k: sum(v or 0 for n, v in grade.points.items() if kinds[n][0] == k) for k in ("submit", "written")}
        waiting = sum(kinds[n][1] for n, v in grade.points.items() if v is None)
        row += [given["submit"], given["written"], waiting, sum(given.values()), problems.points, jail.name]
        rows.append(row)
    return table(header, rows)


def to_mark(problems: ProblemSet, grades: list[Grade], marks: Marks) -> str:
    """A row for every written answer with the mark it has, to be filled in and handed back as `marks.csv`."""
    possible = {c.name: c.points for c in problems.kind("written")}
    rows: list[list[object]] = [
        [grade.student, name, possible[name], "" if grade.points[name] is None else grade.points[name],
         marks.get((grade.student, name), (0, ""))[1]]
        for grade in grades
        for name in possible
        if name in grade.points
    ]  # fmt: skip
    return table(COLUMNS, rows)


def report(
    problems: ProblemSet, grades: list[Grade], jail: Jail, seed: int, limits: Limits, marks: Marks, aside: list[str]
) -> str:
    """How the batch was graded, and what needs a look."""
    written = {(g.student, name) for g in grades for name in g.points}
    lost = [f"  {student}: {cell}" for student, cell in marks if (student, cell) not in written]
    fresh = [f"  {c.name}: {fresh_number(seed, c.name)}" for c in problems.kind("submit") if c.is_fresh]
    odd = [f"  {g.student}: {g.status}" for g in grades if g.status != "graded"]
    waiting = sum(v is None for g in grades for v in g.points.values())
    return "\n".join(
        [
            f"set: {problems.name}, {problems.points} points",
            f"sandbox: {jail.name}",
            f"limits: {limits.cell} s a cell, {limits.notebook} s a notebook, "
            f"{jail.memory / 2**30:.1f} GiB of address space a process",
            f"seed: {seed}; numbers of the fresh inputs:",
            *(fresh or ["  none"]),
            f"submissions: {len(grades)}; written answers still to mark: {waiting}",
            "not graded to the end:",
            *(odd or ["  none"]),
            *(["no notebooks, and nothing else of these students:", *(f"  {name}" for name in aside)] if aside else []),
            *(["in marks.csv, but not among the submissions:", *lost] if lost else []),
            "",
        ]
    )
