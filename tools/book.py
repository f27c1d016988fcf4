"""Build the site from the executed notebooks into `_build/html`; nothing when nothing changed.

`python -m tools.book`, or `make book`. Warnings fail the build. What the site was built from is kept in
`_build/book.json`; a change outside the pages (configuration, tools, versions), a page that came or went, or
a build that failed makes the next one start afresh, so that no warning hides behind a page read earlier.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import notebooks, provenance, scoreboard
from tools.assignments import editions
from tools.notebooks import ROOT, ToolError


def fingerprint(root: Path) -> dict[str, str]:
    """Path and hash of every file that the site depends on, and the commit of every notebook, which the site shows."""
    files = [root / "_config.yml", root / "_toc.yml", root / "requirements.txt"]
    files += [*root.glob("tools/**/*.py"), *root.glob("tools/*.js"), *root.glob("CITATION.cff")]
    files += [p for p in root.glob("book/**/*") if p.is_file() and not p.name.startswith(".")]
    found = {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    return found | {f"{page}, commit": origin["page"] for page, origin in provenance.origins(root).items()}


def needs_fresh_start(old: dict[str, str], new: dict[str, str]) -> bool:
    """Whether Sphinx's own incremental build would miss something of this change."""
    changed = {name for name in new if old.get(name) != new[name]}
    pages = (
        name.startswith("book/") and not name.startswith("book/_static/") and ".yml" not in name for name in changed
    )
    return old.keys() != new.keys() or not all(pages)


def jupyter_book(root: Path) -> bool:
    """One `jupyter-book build`, warnings as errors; False when it failed."""
    jb = Path(sys.executable).with_name("jupyter-book")
    command = [jb, "build", ".", "-W", "-n", "--keep-going", "-q"]
    ended = subprocess.run(
        command, cwd=root, env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if ended.returncode:
        print(notebooks.ANSI.sub("", ended.stdout), file=sys.stderr)
    return ended.returncode == 0


def build(root: Path) -> Path:
    """Bring the site up to date and return its first page; ToolError when the build failed.

    Of several processes that ask at once, one builds and the others wait for it.
    """
    folder = root / "_build"
    folder.mkdir(exist_ok=True)
    with (folder / "book.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return bring_up_to_date(root)


def bring_up_to_date(root: Path) -> Path:
    out, trees, stamp = (root / "_build" / name for name in ("html", ".doctrees", "book.json"))
    scoreboard.update(root)
    new = fingerprint(root)
    old = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
    gone = not (out / "index.html").is_file()
    if old != new or gone:
        stamp.unlink(missing_ok=True)
        if gone or needs_fresh_start(old, new):
            for folder in (out, trees):
                shutil.rmtree(folder, ignore_errors=True)
        if not jupyter_book(root):
            raise ToolError("the site was not built; what is wrong stands above")
        if sets := editions.handouts(root):
            editions.replace(out / "assignments", sets)
        notebooks.write_atomic(stamp, json.dumps(new, indent=0) + "\n")
    return out / "index.html"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.book", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        index = build(args.root.resolve())
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The book is at {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
