"""A problem set as a value: cells that say what they are for, and the exercises that they make up.

One source, `book/assignments/<set>.md`, carries exercises, solutions, checks and mutants; all else is derived from it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("book", "assignments")
KINDS = {  # tag: (cell type, the metadata that it must have)
    "answer": ("code", {"name"}),
    "written": ("markdown", {"name", "points"}),
    "solution": ("markdown", set()),
    "self-check": ("code", set()),
    "submit": ("code", {"name", "points"}),
    "check": ("code", set()),
    "wrong": ("code", {"replaces", "loses"}),
    "equivalent": ("code", {"replaces"}),
}
PRIVATE = {"solution", "check", "wrong", "equivalent"}  # never released
HEADING = re.compile(r"^## Exercise (\d+) \((\d+) points?\)\. (.+)$", re.MULTILINE)
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
FRESH = re.compile(r"^fresh = 0\b")


@dataclass(frozen=True)
class Cell:
    """One cell of a set; `kind` is its tag, or `text` or `code`; `line` is where its source begins in the file."""

    kind: str
    source: str
    line: int
    name: str = ""
    points: int = 0
    replaces: str = ""
    loses: tuple[str, ...] = ()

    @property
    def is_code(self) -> bool:
        return self.kind == "code" or KINDS.get(self.kind, ("",))[0] == "code"

    @property
    def is_fresh(self) -> bool:
        """Whether the grader draws another number for this submit cell."""
        return self.kind == "submit" and bool(FRESH.match(self.source))

    @property
    def stub(self) -> str:
        """The source without its solutions: what the student fills in."""
        return without_solutions(self.source)


@dataclass(frozen=True)
class Exercise:
    """A heading with its points, and the submit and written cells below it."""

    number: int
    title: str
    points: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ProblemSet:
    """A whole set; `name` is that of its file."""

    path: Path
    title: str
    cells: tuple[Cell, ...]
    exercises: tuple[Exercise, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    def kind(self, *kinds: str) -> tuple[Cell, ...]:
        return tuple(c for c in self.cells if c.kind in kinds)

    @property
    def points(self) -> int:
        return sum(e.points for e in self.exercises)

    @property
    def checks(self) -> str:
        """The source of all check cells, as one module."""
        return "\n\n".join(c.source for c in self.kind("check")) + "\n"

    def replaced(self, *variants: Cell) -> tuple[Cell, ...]:
        """The public cells with their solutions, some answers replaced by wrong or equivalent ones."""
        swap = {variant.replaces: variant.source for variant in variants}
        return tuple(
            Cell("answer", swap[c.name], c.line, c.name) if c.kind == "answer" and c.name in swap else c
            for c in self.cells
            if c.kind not in PRIVATE
        )

    @property
    def exercise_of(self) -> dict[str, int]:
        """The number of the exercise that an answer cell stands in, by the name of the cell."""
        number, found = 0, {}
        for cell in self.cells:
            for match in HEADING.finditer(cell.source if cell.kind == "text" else ""):
                number = int(match[1])
            if cell.kind == "answer":
                found[cell.name] = number
        return found


def without_solutions(source: str) -> str:
    """Cut the marked regions; an indented one becomes a NotImplementedError, one at the left margin a comment."""
    kept, inside = [], False
    for line in source.splitlines():
        mark, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        if mark == BEGIN:
            inside = True
            kept.append(f'{indent}raise NotImplementedError("your answer here")' if indent else "# your answer here")
        elif mark == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def check_name(submit: str) -> str:
    """The name of the function that checks a submit cell."""
    return "check_" + submit.replace("-", "_")
