"""`python -m tools.assignments VERB`: try a set (for authors), build the editions, grade submissions."""

import argparse
import sys
from pathlib import Path

from tools.assignments import reading, trial
from tools.notebooks import ROOT, ToolError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.assignments", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("try", help="run reference, stubs, wrong and equivalent answers, without a sandbox")
    verb.add_argument("set", help="name of a set, or path of an .md")
    args = parser.parse_args(argv)
    try:
        return 0 if trial.report(reading.read(reading.find(args.root, args.set))) else 1
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
