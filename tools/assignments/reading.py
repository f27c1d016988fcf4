"""Read a problem set from its MyST source; a malformed one is refused with the file, the line and the reason."""

import ast
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from tools.assignments.source import (
    BEGIN,
    END,
    FOLDER,
    HEADING,
    KINDS,
    NAME,
    Cell,
    Exercise,
    ProblemSet,
    check_name,
    without_solutions,
)  # fmt: skip
from tools.notebooks import ToolError


def sets(root: Path) -> list[Path]:
    """The sources of all sets: the pages of the folder that are notebooks."""
    pages = sorted((root / FOLDER).glob("*.md"))
    return [p for p in pages if p.read_text(encoding="utf-8").startswith("---\njupytext:")]


def find(root: Path, name: str) -> Path:
    """The source that `name` means: a set of the book or a path to an .md; ToolError when there is none."""
    known = {p.stem: p for p in sets(root)}
    path = known.get(name.removesuffix(".md").split("/")[-1], Path(name))
    if not path.is_file() or path.suffix != ".md":
        raise ToolError(f"there is no set '{name}'; known: {', '.join(known) or 'none'}")
    return path


def read(path: Path) -> ProblemSet:
    """Read and check a set; ToolError with file, line and reason when it is malformed."""
    text = path.read_text(encoding="utf-8")
    nb = jupytext.reads(text, fmt="md:myst")
    if "kernelspec" not in nb.metadata:
        raise ToolError(f"{path.name}: the front matter of a chapter is missing")
    cells, at = [], 0
    for cell in nb.cells:
        at = max(text.find(cell.source, at), at)
        cells.append(typed(cell, path.name, text.count("\n", 0, at) + 1))
        at += len(cell.source)
    title = re.match(r"# (.+)", cells[0].source) if cells else None
    if title is None:
        raise ToolError(f"{path.name}: the first cell does not begin with a title, '# ...'")
    found = ProblemSet(path, title[1], tuple(cells), exercises(path.name, cells))
    validate(found)
    return found


def typed(cell: NotebookNode, file: str, line: int) -> Cell:
    """The cell with its kind; ToolError for an unknown tag, a missing or unknown key, or code that does not parse."""

    def refuse(reason: str) -> ToolError:
        return ToolError(f"{file}:{line}: {reason} in the cell that begins '{cell.source.strip().split(chr(10))[0]}'")

    metadata = dict(cell.metadata)
    tags = metadata.pop("tags", [])
    if len(tags) > 1 or set(tags) - KINDS.keys():
        raise refuse(f"tags {tags}: wanted at most one of {', '.join(KINDS)}")
    kind = tags[0] if tags else {"markdown": "text", "code": "code"}.get(cell.cell_type, "")
    type_, keys = KINDS.get(kind, (cell.cell_type, set()))
    if cell.cell_type != type_ or not kind:
        raise refuse(f"a {kind or 'raw'} cell must be {type_ if kind else 'code or markdown'}, not {cell.cell_type},")
    if metadata.keys() != keys:
        raise refuse(f"a {kind} cell has the keys {sorted(keys)}, not {sorted(metadata)},")
    loses = metadata.get("loses", [])
    if "points" in keys and not (type(metadata["points"]) is int and metadata["points"] > 0):
        raise refuse(f"points must be a whole number above 0, not {metadata['points']!r},")
    if "name" in keys and not NAME.fullmatch(str(metadata["name"])):
        raise refuse(f"name {metadata['name']!r} must be lower-case words joined by hyphens")
    if not isinstance(loses, list) or ("loses" in keys and not loses):
        raise refuse("loses must be a list of at least one submit cell")
    if type_ == "code":
        try:
            ast.parse(cell.source)
            ast.parse(without_solutions(cell.source))
        except SyntaxError as error:
            raise refuse(f"{error} (cell or stub)") from None
    return Cell(
        kind, cell.source, line, str(metadata.get("name", "")), metadata.get("points", 0),
        str(metadata.get("replaces", "")), tuple(map(str, loses)),
    )  # fmt: skip


def exercises(file: str, cells: list[Cell]) -> tuple[Exercise, ...]:
    """The exercises in order; ToolError when a heading stands wrong or its points are not the sum below it."""
    starts = []
    for i, cell in enumerate(cells):
        headings = list(HEADING.finditer(cell.source)) if cell.kind == "text" else []
        wild = not cell.is_code and len(re.findall(r"^#+ Exercise ", cell.source, re.MULTILINE)) != len(headings)
        if wild or len(headings) > 1:
            wanted = "'## Exercise 3 (12 points). Title', one a cell, in an ordinary markdown cell"
            raise ToolError(f"{file}:{cell.line}: an exercise heading is not {wanted}")
        starts += [(i, headings[0])] if headings else []
    found = []
    for (start, heading), (stop, _) in pairwise([*starts, (len(cells), None)]):
        assert heading is not None
        below = tuple(c for c in cells[start:stop] if c.points)
        number, points, where = int(heading[1]), int(heading[2]), f"{file}:{cells[start].line}"
        if points != sum(c.points for c in below):
            raise ToolError(f"{where}: '{heading[0]}', but the cells below add up to {sum(c.points for c in below)}")
        if number != len(found) + 1:
            raise ToolError(f"{where}: '{heading[0]}' should be number {len(found) + 1}")
        found.append(Exercise(number, heading[3], points, below))
    early = [c for c in cells[: starts[0][0] if starts else None] if c.points]
    if early or not found:
        raise ToolError(f"{file}:{early[0].line if early else 1}: points before the first exercise heading, or none")
    return tuple(found)


def validate(found: ProblemSet) -> None:
    """What one cell alone cannot show: names, marks, calls of submit, and a check for each."""
    for rule in RULES:
        for cell, reason in rule(found):
            first = cell.source.strip().split("\n")[0]
            raise ToolError(f"{found.path.name}:{cell.line}: {reason} in the cell that begins '{first}'")


def bad_names(found: ProblemSet) -> list[tuple[Cell, str]]:
    answers = [c.name for c in found.kind("answer")]
    graded = [c.name for c in found.kind("submit", "written")]
    submits = {c.name for c in found.kind("submit")}
    bad = [(c, f"a second answer '{c.name}'") for c in found.kind("answer") if answers.count(c.name) > 1]
    bad += [(c, f"a second '{c.name}'") for c in found.kind("submit", "written") if graded.count(c.name) > 1]
    variants = found.kind("wrong", "equivalent")
    bad += [(c, f"replaces the unknown answer '{c.replaces}'") for c in variants if c.replaces not in answers]
    bad += [
        (c, f"loses unknown submit cells {sorted(set(c.loses) - submits)}") for c in variants if {*c.loses} - submits
    ]
    bad += [(c, "no comment that names the mistake") for c in found.kind("wrong") if not c.source.startswith("#")]
    return bad


def bad_marks(found: ProblemSet) -> list[tuple[Cell, str]]:
    bad = []
    for cell in found.cells:
        marks = [line for line in cell.source.splitlines() if "BEGIN SOLUTION" in line or "END SOLUTION" in line]
        paired = len(marks) % 2 == 0 and all(
            begin.rstrip() == begin[: len(begin) - len(begin.lstrip())] + BEGIN
            and end.rstrip() == begin.rstrip().replace(BEGIN, END)
            for begin, end in zip(marks[::2], marks[1::2], strict=True)
        )
        if cell.kind == "answer" and not (marks and paired):
            bad.append((cell, f"'{BEGIN}' and '{END}' must come in pairs at the same indent, at least one pair,"))
        if cell.kind != "answer" and marks:
            bad.append((cell, "solution marks outside an answer cell"))
    return bad


def bad_submits(found: ProblemSet) -> list[tuple[Cell, str]]:
    bad = []
    for cell in found.kind("submit"):
        tree = ast.parse(cell.source)
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "submit"]
        last = tree.body[-1].value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if len(calls) != 1 or calls[0] is not last or len(calls[0].args) != 1 or calls[0].keywords:
            bad.append((cell, "a submit cell must end in its one call submit(value), which is missing"))
        if any(isinstance(n, ast.Name) and n.id == "fresh" for n in ast.walk(tree)) and not cell.is_fresh:
            bad.append((cell, "'fresh' is used but the first line is not 'fresh = 0'"))
    imports = "from symlib.answers import submit"
    if not any(imports in c.source for c in found.kind("code")):
        bad.append((found.cells[0], f"no ordinary code cell has '{imports}'; the set begins"))
    return bad


def bad_checks(found: ProblemSet) -> list[tuple[Cell, str]]:
    submits = {check_name(c.name): c for c in found.kind("submit")}
    bad, seen = [], set()
    for cell in found.kind("check"):
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                if node.name not in submits or node.name in seen:
                    bad.append((cell, f"{node.name} checks no submit cell, or is there twice,"))
                if [a.arg for a in node.args.args] != ["answer", "fresh"]:
                    bad.append((cell, f"{node.name} must take (answer, fresh)"))
                seen.add(node.name)
    return bad + [
        (cell, f"no {name} for the submit cell '{cell.name}'") for name, cell in submits.items() if name not in seen
    ]


RULES: tuple[Callable[[ProblemSet], list[tuple[Cell, str]]], ...] = (bad_names, bad_marks, bad_submits, bad_checks)
