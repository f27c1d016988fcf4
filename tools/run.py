"""Run chapters with papermill: in parallel, resumable, into `_build/run/<profile>/<chapter>.ipynb`.

`make run PROFILE=full C=noether-for-gradient-flow J=2 P="seed=3 device=cpu"`. A finished notebook carries in
its metadata the key of what it was made from; the same key is "up to date" next time. Work in progress has a
hidden temporary name and gets its own only when it is finished: a run killed at any moment leaves nothing
half-written under a chapter's name.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tools import notebooks
from tools.notebooks import ROOT, Chapter, ToolError

PROFILES = ("quick", "full")


@dataclass(frozen=True)
class Job:
    """One chapter to run: where to, with which parameters, and the key of what the result depends on."""

    chapter: Chapter
    output: Path
    parameters: dict[str, object]
    key: str


@dataclass(frozen=True)
class Result:
    """How a job ended: `done`, `failed` or `up to date`, its seconds, and what to print about a failure."""

    chapter: str
    status: str
    seconds: float
    detail: str = ""


def run_key(chapter: Chapter, parameters: dict[str, object]) -> str:
    """Hash of all that a run depends on: the source, symlib, the pinned versions and the parameters."""
    root = chapter.root
    files = [chapter.source, root / "requirements.txt", *sorted((root / "symlib").rglob("*.py"))]
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for file in files:
        digest.update(f"\0{file.relative_to(root)}\0".encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def plan(root: Path, profile: str, wanted: str, assignments: str) -> list[Job]:
    """The jobs of a run; ToolError on an unknown profile, chapter or parameter, before any starts."""
    if profile not in PROFILES:
        raise ToolError(f"PROFILE={profile} is no profile; known: {', '.join(PROFILES)}")
    given: dict[str, str] = {}
    for word in assignments.split():
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise ToolError(f"P: wanted name=value, got '{word}'")
        given[name] = text
    if "profile" in given:
        raise ToolError(f"P: the profile is chosen with PROFILE={given['profile']}")
    jobs = []
    for chapter in notebooks.choose(notebooks.chapters(root), wanted):
        known = notebooks.defaults(notebooks.read_source(chapter))
        values = {
            name: notebooks.convert(chapter.name, name, text, known)
            for name, text in ({"profile": profile} | given).items()
        }
        output = root / "_build" / "run" / profile / f"{chapter.name}.ipynb"
        jobs.append(Job(chapter, output, values, run_key(chapter, values)))
    return jobs


def finished(job: Job) -> float | None:
    """The seconds of the finished notebook with this job's key, or None when the job is still to be run."""
    try:
        stamp = json.loads(job.output.read_text(encoding="utf-8"))["metadata"]["symlib_run"]
        return float(stamp["seconds"]) if stamp["key"] == job.key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def work(job: Job) -> Result:
    """Run one job in this process; its notebook appears under its name only when every cell has succeeded."""
    partial = job.output.with_name(f".{job.output.stem}.{os.getpid()}.partial.ipynb")
    failed = job.output.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    start = time.perf_counter()
    nb = notebooks.execute(job.chapter, partial, job.parameters)
    seconds = round(time.perf_counter() - start, 1)
    if problem := notebooks.failure(job.chapter, nb):
        os.replace(partial, failed)
        where = failed.relative_to(job.chapter.root)
        return Result(job.chapter.name, "failed", seconds, f"{problem}\n    what ran is in {where}")
    nb.metadata["symlib_run"] = {"key": job.key, "seconds": seconds, "parameters": job.parameters}
    notebooks.write_atomic(job.output, notebooks.to_json(nb))
    partial.unlink()
    return Result(job.chapter.name, "done", seconds)


def die_with(parent: int) -> None:
    """End this process within a second of its parent, however the parent ended; the kernel does the same."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start(job: Job, threads: int) -> tuple[Job, subprocess.Popen, IO[bytes], float]:
    """Start a worker for one job; what it prints goes to a temporary file, the last line is its Result."""
    spec = json.dumps({"name": job.chapter.name, "part": job.chapter.part, "root": str(job.chapter.root),
                       "output": str(job.output), "parameters": job.parameters, "key": job.key,
                       "parent": os.getpid()})  # fmt: skip
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by collect)
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.run", "--worker", spec],
        cwd=ROOT, env=os.environ | limits | {"TQDM_DISABLE": "1"}, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return job, process, log, time.perf_counter()


def worker(spec: str) -> None:
    """The body of a worker process."""
    given = json.loads(spec)
    die_with(given["parent"])
    chapter = Chapter(Path(given["root"]), given["name"], given["part"])
    result = work(Job(chapter, Path(given["output"]), given["parameters"], given["key"]))
    print("\n" + json.dumps(asdict(result)))


def collect(job: Job, process: subprocess.Popen, log: IO[bytes], began: float) -> Result:
    """The Result of an ended worker; one that was killed or broke is a failure with what it printed."""
    log.seek(0)
    text = log.read().decode(errors="replace")
    log.close()
    if process.returncode == 0:
        return Result(**json.loads(text.splitlines()[-1]))
    last = notebooks.ANSI.sub("", "\n".join(text.splitlines()[-5:]))
    reason = f"the worker ended with status {process.returncode}\n{last}"
    return Result(job.chapter.name, "failed", round(time.perf_counter() - began, 1), reason)


def run_all(jobs: list[Job], workers: int) -> Iterator[Result]:
    """Run the jobs in up to `workers` processes, each Result as it comes; closing this ends the workers.

    A worker has OMP_NUM_THREADS threads where that is set, else its share of the cores.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(wanted) if wanted.isdigit() else max(1, (os.cpu_count() or 1) // workers)
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(start(waiting.pop(0), threads))
            for ended in [r for r in running if r[1].poll() is not None]:
                running.remove(ended)
                yield collect(*ended)
            time.sleep(0.05)
    finally:
        for _, process, _, _ in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def shared_lock(folder: Path) -> Iterator[IO[str]]:
    """A lock that all runs into `folder` share; it ends with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        remove_partials(folder, lock)
        try:
            yield lock
        finally:
            remove_partials(folder, lock)


def remove_partials(folder: Path, lock: IO[str]) -> None:
    """Remove temporary notebooks of runs that were killed, unless another run is under way."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in folder.rglob(".*.partial*"):
            path.unlink(missing_ok=True)
    fcntl.flock(lock, fcntl.LOCK_SH)


def table(results: list[Result]) -> str:
    """The closing table: chapter, status, seconds."""
    width = max([len(r.chapter) for r in results] + [len("chapter")])
    rows = [f"{r.chapter:{width}}  {r.status:10}  {r.seconds:8.1f}" for r in results]
    return "\n".join([f"{'chapter':{width}}  {'status':10}  {'seconds':>8}", *rows])


def carry_out(jobs: list[Job], workers: int) -> int:
    """Run what is not up to date, a line for each chapter as it ends and the table last; the exit status."""
    results: dict[str, Result] = {}

    def report(result: Result) -> None:
        results[result.chapter] = result
        line = f"[{len(results)}/{len(jobs)}] {result.chapter}  {result.status}  {result.seconds:.1f} s"
        print(line + (f"\n  {result.detail}" if result.detail else ""), flush=True)

    waiting = []
    for job in jobs:
        seconds = finished(job)
        if seconds is None:
            waiting.append(job)
        else:
            report(Result(job.chapter.name, "up to date", seconds))
    interrupted = False
    try:
        for result in run_all(waiting, workers):
            report(result)
    except KeyboardInterrupt:
        interrupted = True
    order = [results.get(j.chapter.name, Result(j.chapter.name, "not run", 0.0)) for j in jobs]
    print("\n" + table(order))
    if interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return int(any(r.status == "failed" for r in order))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.run", description=__doc__)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--chapters", default="", help="full names or last parts; all when empty")
    parser.add_argument("--jobs", default="", help="worker processes; as many as there are cores when empty")
    parser.add_argument("--parameters", default="", help='such as "seed=3 device=cpu"')
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        worker(args.worker)
        return 0
    try:
        jobs = plan(args.root.resolve(), args.profile, args.chapters, args.parameters)
        if args.jobs and not (args.jobs.isdecimal() and int(args.jobs) > 0):
            raise ToolError(f"J: wanted a positive number of workers, got '{args.jobs}'")
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with shared_lock(args.root.resolve() / "_build" / "run" / args.profile):
        return carry_out(jobs, min(int(args.jobs or os.cpu_count() or 1), len(jobs)) or 1)


if __name__ == "__main__":
    sys.exit(main())
