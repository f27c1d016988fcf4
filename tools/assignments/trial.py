"""Try a set without a sandbox, for its authors: reference, stubs, every wrong and every equivalent answer.

Each variant runs as plain Python in a forked child with the release's cells in order, an error ending only its cell.
"""

import contextlib
import io
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.assignments.checking import Checker
from tools.assignments.source import Cell, ProblemSet
from tools.notebooks import ToolError

FRESH = 20231


@dataclass(frozen=True)
class Variant:
    """One filling of the answer cells, and the submit cells that it must lose."""

    title: str
    cells: tuple[Cell, ...]
    loses: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What a variant got: for each submit cell '' or what is wrong; errors of its cells; seconds."""

    variant: Variant
    wrong: dict[str, str]
    errors: dict[str, str]
    seconds: float

    @property
    def lost(self) -> frozenset[str]:
        return frozenset(name for name, wrong in self.wrong.items() if wrong)

    @property
    def as_wanted(self) -> bool:
        reference = self.variant.title == "reference"
        return self.lost == self.variant.loses and not (reference and self.errors)


def variants(problems: ProblemSet) -> list[Variant]:
    """The reference, the stubs, and one for every wrong and equivalent cell."""
    every = frozenset(c.name for c in problems.kind("submit"))
    stubs = tuple(Cell(c.kind, c.stub, c.line, c.name) if c.kind == "answer" else c for c in problems.replaced())
    found = [Variant("reference", problems.replaced(), frozenset()), Variant("stubs", stubs, every)]
    for cell in problems.kind("wrong", "equivalent"):
        title = f"{cell.kind} {cell.replaces}, line {cell.line}"
        found.append(Variant(title, problems.replaced(cell), frozenset(cell.loses)))
    return found


def rounds(problems: ProblemSet) -> list[Variant]:
    """The same in fewer runs: reference, stubs, and wrong and equivalent cells together, one of each exercise.

    What a variant may lose stands in its own exercise, so that what each of them loses can still be told.
    """
    queues: dict[int, list[Cell]] = {}
    for cell in problems.kind("wrong", "equivalent"):
        queues.setdefault(problems.exercise_of[cell.replaces], []).append(cell)
    found = variants(problems)[:2]
    for cells in itertools.zip_longest(*queues.values()):
        some = [cell for cell in cells if cell]
        title = "; ".join(f"{cell.kind} {cell.replaces}, line {cell.line}" for cell in some)
        found.append(Variant(title, problems.replaced(*some), frozenset(n for cell in some for n in cell.loses)))
    return found


def play(cells: Iterable[Cell]) -> tuple[dict[str, object], dict[str, str]]:
    """Run the code cells one after the other in this process: the answers submitted, and the errors by cell."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    import symlib.answers

    answers: dict[str, object] = {}
    errors: dict[str, str] = {}
    space: dict[str, object] = {"__name__": "__main__"}
    for cell in (c for c in cells if c.is_code):

        def record(value: object, name: str = cell.name) -> None:
            answers[name] = symlib.answers.plain(value)

        symlib.answers.submit = record
        space |= {"submit": record} if "submit" in space else {}
        source = cell.source.replace("fresh = 0", f"fresh = {FRESH}", 1) if cell.is_fresh else cell.source
        try:
            exec(compile(source, f"<line {cell.line}>", "exec"), space)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            errors[f"{cell.kind} {cell.name}".strip() + f", line {cell.line}"] = (
                f"{type(error).__name__}: {error} ({at.filename}:{at.lineno} {at.line or ''})".strip()
            )
    return answers, errors


def forked(cells: Iterable[Cell]) -> tuple[dict[str, object], dict[str, str]]:
    """`play` in a forked child, its printing thrown away."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        with contextlib.redirect_stdout(io.StringIO()), os.fdopen(write, "w") as pipe:
            json.dump(play(cells), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise ToolError("the process that ran a variant died; its own message stands above")
    answers, errors = json.loads(text)
    return answers, errors


def outcomes(problems: ProblemSet, chosen: Iterable[Variant]) -> Iterator[Outcome]:
    """Run and check the variants, one after the other."""
    import matplotlib.pyplot
    import sympy
    import torch  # imported once, before the forks

    torch.set_num_threads(1)
    assert sympy and matplotlib.pyplot
    with Checker(problems) as checker:
        for variant in chosen:
            clock = time.monotonic()
            answers, errors = forked(variant.cells)
            seconds = time.monotonic() - clock
            wrong = {
                c.name: checker.verdict(c.name, answers.get(c.name), FRESH if c.is_fresh else 0)
                for c in problems.kind("submit")
            }
            yield Outcome(variant, wrong, errors, seconds)


def report(problems: ProblemSet) -> bool:
    """Print a line for every variant, and what is not as wanted; whether all is."""
    points = {c.name: c.points for c in problems.kind("submit")}
    total, good = sum(points.values()), True
    print(f"{problems.name}: {problems.points} points, {total} of them automatic")
    for outcome in outcomes(problems, variants(problems)):
        got = total - sum(points[name] for name in outcome.lost)
        good &= outcome.as_wanted
        mark = "ok" if outcome.as_wanted else "NOT AS WANTED"
        print(f"  {outcome.variant.title:42} {got:3} of {total}  {outcome.seconds:5.1f} s  {mark}")
        if not outcome.as_wanted:
            print(f"      loses {sorted(outcome.lost)}, wanted {sorted(outcome.variant.loses)}")
            for what, error in outcome.errors.items():
                print(f"      {what}: {error}")
        if not outcome.as_wanted or outcome.variant.title.startswith("wrong"):
            for name in sorted(outcome.lost):
                print(f"      {name}: {outcome.wrong[name]}")
    return good
