"""The checks of a set, run in a process of their own: each answer in a child with limits on time and memory.

A `Checker` starts one process that imports the checks once and then, for each answer, forks; so an answer that is
costly to check costs itself and nobody else.
"""

import contextlib
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

from tools.assignments.source import ProblemSet, check_name
from tools.notebooks import ROOT, ToolError

SECONDS, MEMORY = 20, 4 << 30
NO_ANSWER = "no answer was submitted"


class Checker:
    """Says for each (submit cell, answer, fresh) whether it is right: '' or what is wrong. A context manager."""

    def __init__(self, problems: ProblemSet, seconds: float = SECONDS) -> None:
        self.problems, self.seconds = problems, seconds
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "checks.py")
        path.write_text(problems.checks, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.assignments.checking", path, str(seconds)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()

    def verdict(self, name: str, answer: object, fresh: int = 0) -> str:
        """'' for a right answer, otherwise what is wrong with it; ToolError when the checks cannot be imported."""
        if answer is None:
            return NO_ANSWER
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([check_name(name), answer, fresh]) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ToolError(f"{self.problems.path.name}: the checks stopped at '{name}'")
        return json.loads(line)


Check = Callable[[object, int], None]


def verdict(check: Check, answer: object, fresh: int) -> str:
    """Call one check; what is wrong, or ''. An error other than AssertionError is told as such, and no points."""
    try:
        check(answer, fresh)
    except AssertionError as error:
        return str(error) or "wrong"
    except Exception as error:
        return f"the answer could not be checked: {type(error).__name__}: {error}"
    return ""


def limited(check: Check, answer: object, fresh: int, seconds: float) -> str:
    """The same in a forked child, killed after so many seconds of computing, or ten times that on the clock."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            json.dump(verdict(check, answer, fresh), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        ready = select.select([pipe], [], [], 10 * seconds)[0]
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "the answer takes too much to check"


def main(path: str, seconds: str) -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # what a check prints is no reply
    checks = types.ModuleType("checks")
    exec(compile(Path(path).read_text(encoding="utf-8"), "checks", "exec"), checks.__dict__)
    for line in sys.stdin:
        name, answer, fresh = json.loads(line)
        print(json.dumps(limited(getattr(checks, name), answer, fresh, float(seconds))), file=replies, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
