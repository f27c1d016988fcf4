"""Refresh a pair: execute `book/<chapter>.md` at its defaults and write the notebook beside it.

`python -m tools.chapter NAME`, or `make chapter C=NAME`. The defaults are profile quick; twice gives the same
bytes. A chapter whose cell fails leaves its old notebook untouched. Where the notebook comes from is stored in its
metadata under `symlib`; a run that gives the same cells leaves the provenance of the first.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from symlib import results
from tools import notebooks
from tools.notebooks import ROOT, Chapter, ToolError


def refresh(chapter: Chapter) -> bool:
    """Execute and write the notebook; say whether it changed. Raises ToolError when a cell fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        nb = notebooks.execute(chapter, Path(folder, "chapter.ipynb"), {})
    seconds = time.monotonic() - began
    if problem := notebooks.failure(chapter, nb):
        raise ToolError(f"{chapter.name}: the notebook was not written\n  {problem}")
    nb, old = notebooks.clean(nb), chapter.notebook.read_text(encoding="utf-8") if chapter.notebook.is_file() else ""
    stored = nbformat.reads(old, as_version=4) if old else nbformat.v4.new_notebook()
    known = stored.metadata.get("symlib") if stored.cells == nb.cells else None
    nb.metadata["symlib"] = known or origin(chapter, seconds)
    text = notebooks.to_json(nb)
    if text == old:
        return False
    notebooks.write_atomic(chapter.notebook, text)
    return True


def origin(chapter: Chapter, seconds: float) -> dict[str, Any]:
    """The provenance of a run at the chapter's defaults that took `seconds`."""
    from symlib import dynamics

    values: dict[str, Any] = {"profile": "quick", "device": "auto", "seed": 0} | notebooks.defaults(
        notebooks.read_source(chapter)
    )
    device = str(dynamics.device(str(values["device"])))
    return results.provenance(profile=values["profile"], device=device, seed=values["seed"], seconds=seconds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.chapter", description=__doc__)
    parser.add_argument("chapters", help="chapters, full names or last parts, split at commas or spaces")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    # One thread, so that sums are added in the same order on a machine with more cores.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    try:
        known = notebooks.chapters(args.root.resolve())
        if not args.chapters.strip():
            raise ToolError("C= names no chapter; known: " + ", ".join(c.name for c in known))
        for chapter in notebooks.choose(known, args.chapters):
            state = "written" if refresh(chapter) else "unchanged"
            print(f"{chapter.notebook.relative_to(args.root.resolve())}  {state}", flush=True)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
