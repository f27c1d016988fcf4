"""`python -m tools.assignments VERB`: try a set (for authors), build the editions, grade submissions."""

import argparse
import secrets
import sys
from pathlib import Path

from tools.assignments import reading, trial
from tools.notebooks import ROOT, ToolError


class NoSandbox(ToolError):
    """Submitted code cannot be run safely here."""


def grade(root: Path, name: str, submitted: Path, seed: str, unsafe: bool, seconds: tuple[int, int]) -> Path:
    """Grade a batch and put the results into `_build/grades/<set>`; nothing is written when anything fails."""
    from tools.assignments import editions, grading, jail, reports, submissions

    problems = reading.read(reading.find(root, name))
    batch = submissions.collect(submitted)
    out = root / "_build" / "grades" / problems.name
    kept = out / "seed.txt"
    number = int(seed or (kept.read_text(encoding="utf-8") if kept.is_file() else secrets.randbits(32)))
    marks = reports.read_marks((submitted if submitted.is_dir() else submitted.parent) / "marks.csv", problems)
    aside = submissions.left_aside(submitted, batch)
    limits = grading.Limits(cell=seconds[0], notebook=seconds[1])
    try:
        cell = jail.prepare(unsafe)
    except ToolError as error:
        raise NoSandbox(str(error)) from None
    print(f"{len(batch)} submissions of {problems.name}; sandbox: {cell.name}", flush=True)
    with grading.course_folder() as folder:
        course = Path(folder)
        grades, log = grading.grade(problems, batch, course, jail=cell, seed=number, limits=limits, marks=marks)
        report = reports.report(problems, grades, cell, number, limits, marks, aside)
        files = {
            "grades.csv": reports.grades_csv(problems, grades, cell),
            "to-mark.csv": reports.to_mark(problems, grades, marks),
            "report.txt": report, "log.txt": log, "seed.txt": str(number),
            **{f"feedback/{g.student}.html": g.feedback for g in grades if g.feedback},
        }  # fmt: skip
        data = {name: text.encode() for name, text in files.items()}
        for path in (p for p in course.rglob("*") if p.is_file() and "feedback" not in p.parts):
            data[f"course/{path.relative_to(course)}"] = path.read_bytes()
        out.parent.mkdir(parents=True, exist_ok=True)
        editions.replace(out, data)
    print(report)
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.assignments", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("try", help="run reference, stubs, wrong and equivalent answers, without a sandbox")
    verb.add_argument("set", help="name of a set, or path of an .md")
    verbs.add_parser("build", help="make the editions of all sets in _build/assignments")
    verb = verbs.add_parser("grade", help="grade a folder or zip of submissions into _build/grades/<set>")
    verb.add_argument("set", help="name of a set, or path of an .md")
    verb.add_argument("submitted", type=Path, help="<student>.ipynb, <student>/<any>.ipynb, or a zip of these")
    verb.add_argument("--seed", default="", help="of the fresh inputs; else that of the last run, or a new one")
    verb.add_argument("--unsafe", action="store_true", help="without a sandbox: submitted code can read and write")
    verb.add_argument("--seconds", type=int, nargs=2, default=(30, 300), metavar=("CELL", "NOTEBOOK"))
    args = parser.parse_args(argv)
    root = args.root.resolve()
    try:
        if args.verb == "try":
            return 0 if trial.report(reading.read(reading.find(root, args.set))) else 1
        if args.verb == "build":
            from tools.assignments import editions

            print(f"The problem sets are in {editions.write(root)}")
        if args.verb == "grade":
            out = grade(root, args.set, args.submitted, args.seed, args.unsafe, tuple(args.seconds))
            print(f"The grades are in {out}")
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, NoSandbox) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
