"""Where submitted code runs: bubblewrap with no network, a temporary home, read-only libraries, and limits.

As an ordinary user the jail is a user namespace. As root it is not, because limits on processes do not hold there:
the jail drops to an uid of its own before Python starts. Nothing of the repository but symlib is inside.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from tools.notebooks import ROOT, ToolError

UID = 61934  # of the jail's processes when the grader is root; nobody else's
INSIDE = Path("/tmp/submission")  # the working folder inside
HOME = Path("/tmp/home")
SYMLIB = Path("/opt/book")
LIMITS = {"nproc": 64, "fsize": 32 << 20, "nofile": 256, "core": 0}
MEMORY = 1 << 30  # bytes on top of what the imports take
PROBE = (
    "import matplotlib.pyplot, sympy, symlib.answers, torch; "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmPeak')))"
)


@dataclass(frozen=True)
class Jail:
    """How submitted code is run; `memory` limits the address space of each process, 0 not at all."""

    bwrap: str | None
    memory: int = 0
    processor: int = 600

    @property
    def name(self) -> str:
        user = f"uid {UID}" if os.getuid() == 0 else "user namespace"
        return f"bubblewrap ({user})" if self.bwrap else "UNSAFE: limits only, files and network are open"

    def command(self, folder: Path, argv: list[str]) -> list[str]:
        """The command line that runs argv with `folder` as the only place of the host that can be written."""
        limits = dict(LIMITS, cpu=self.processor, **({"as": self.memory} if self.memory else {}))
        if not self.bwrap:
            del limits["nproc"]  # it would count the user's other processes too
        inner = ["prlimit", *(f"--{name}={value}" for name, value in limits.items()), "--", *argv]
        if not self.bwrap:
            return inner
        if os.getuid() == 0:
            drop = ["--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs"]
            inner = ["setpriv", *drop, "--bounding-set=-all", "--inh-caps=-all", "--", *inner]
        return [self.bwrap, *isolation(), *binds(folder), *environment(), "--chdir", str(INSIDE), "--", *inner]

    def run(self, code: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a line of Python inside, in a new run folder."""
        with RunFolder() as folder:
            command = self.command(folder, [sys.executable, "-c", code])
            return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=outside(folder))


class RunFolder(tempfile.TemporaryDirectory):
    """A short-named folder for the sockets of one kernel, owned by the user that the kernel runs as."""

    def __init__(self) -> None:
        super().__init__(prefix="jail", dir="/tmp", ignore_cleanup_errors=True)  # sockets have short names

    def __enter__(self) -> Path:
        if os.getuid() == 0:
            os.chown(self.name, UID, UID)
        return Path(self.name)


def isolation() -> list[str]:
    """No network, no other processes, no way up; as an ordinary user also another user namespace."""
    common = ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "jail", "--cap-drop", "ALL"]
    if os.getuid() == 0:
        apart = [f"--unshare-{what}" for what in ("pid", "net", "ipc", "uts")]
        kept = [w for cap in ("SETUID", "SETGID", "SETPCAP") for w in ("--cap-add", f"CAP_{cap}")]
        return [*apart, *common, *kept]
    return ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000", *common]


def binds(folder: Path) -> list[str]:
    """What can be seen inside: the system's and Python's libraries and symlib to read, `folder` to write."""
    seen = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        seen += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else []
        seen += ["--ro-bind", str(path), str(path)] if path.is_dir() and not path.is_symlink() else []
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        seen += ["--ro-bind-try", name, name]
    for place in ("/tmp", "/dev/shm"):
        seen += ["--perms", "1777", "--size", str(64 << 20), "--tmpfs", place]
    seen += [w for place in (HOME, HOME / "matplotlib", INSIDE) for w in ("--perms", "0777", "--dir", str(place))]
    for fonts in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        seen += ["--ro-bind", str(fonts), str(HOME / "matplotlib" / fonts.name)]
    libraries = {Path(p): Path(p) for p in (sys.base_prefix, sys.prefix)} | {SYMLIB / "symlib": ROOT / "symlib"}
    for path, source in libraries.items():
        if path.parts[:2] != ("/", "usr"):
            parents = [p for p in reversed(path.parents) if p != Path("/")]  # bubblewrap's own are closed to others
            seen += [w for p in parents for w in ("--perms", "0755", "--dir", str(p))]
            seen += ["--ro-bind", str(source), str(path)]
    return [*seen, "--bind", str(folder), str(folder)]


def variables(home: Path, library: Path) -> dict[str, str]:
    """The environment of submitted code, one thread in every library."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    return threads | {
        "HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib"), "PYTHONPATH": str(library),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "student",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


def environment() -> list[str]:
    """The same as arguments of bubblewrap."""
    return [w for name, value in variables(HOME, SYMLIB).items() for w in ("--setenv", name, value)]


def outside(folder: Path) -> dict[str, str]:
    """The environment that the command itself is started with."""
    return variables(folder, ROOT)


def prepare(unsafe: bool = False) -> Jail:
    """The jail, tried once; ToolError, which says what to do, when submitted code could not run inside."""
    if unsafe and os.getuid() == 0:
        raise ToolError("UNSAFE=1 would run submitted code as root: start the command as an ordinary user")
    bwrap = shutil.which("bwrap")
    if not unsafe and bwrap is None:
        raise ToolError("bubblewrap is not installed: apt install bubblewrap (UNSAFE=1: see the instructors' README)")
    jail = Jail(None if unsafe else bwrap)
    try:
        tried = jail.run(PROBE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"the sandbox does not work here: {error}") from None
    if tried.returncode or not tried.stdout.strip().isdigit():
        raise ToolError(f"the sandbox does not work here, {jail.name}:\n{tried.stderr.strip()[-2000:]}")
    return Jail(jail.bwrap, memory=int(tried.stdout) * 1024 + MEMORY)
