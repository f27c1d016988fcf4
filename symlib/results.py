"""Claims that assert and show their number, and saved results with their provenance."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from symlib import cards
from symlib.guards import check_known, check_positive, real

SCHEMA = 1
PROFILES = ("quick", "full")
VERDICTS = ("reproduced", "partly", "not reproduced", "ours")
ORIGIN = ("profile", "device", "seed", "seconds", "commit", "python", "torch")  # what `provenance_line` shows


@dataclass(frozen=True)
class Claim:
    """A measured number inside its bounds, with what a paper says and what we conclude."""

    id: str
    statement: str
    measured: float
    within: tuple[float, float]
    source: str
    paper: str | None = None
    verdict: str = "ours"
    members: int | None = None
    spread: tuple[float, float] | None = None
    unit: str = ""
    profile: str = "quick"

    def record(self) -> dict:
        """The whole claim as plain JSON, for the scoreboard; an infinite bound is the string "inf" or "-inf"."""
        within = tuple(b if math.isfinite(b) else str(b) for b in self.within)
        return {"kind": "claim", **asdict(self), "within": within}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> cards.Bundle:
        ours = f"measured {cards.measured(self.measured, self.unit)}"
        if self.members is not None:
            ours += f", median of {self.members} members"
        if self.spread is not None:
            ours += f", from {cards.measured(self.spread[0])} to {cards.measured(self.spread[1])}"
        lines = [f"{ours}; asserted {bounds(*self.within)}; profile {self.profile}"]
        lines += [f"paper: {cards.rich(self.paper)}"] if self.paper else []
        lines += [f"source: {cards.rich(self.source)}"]
        return cards.bundle(self.record(), self.verdict, repr(self), lines)

    def __repr__(self) -> str:
        return f"{self.verdict}: {self.statement}\n  asserted {bounds(*self.within)}; source: {self.source}"


def bounds(low: float | str, high: float | str) -> str:
    """Bounds in words, as numbers or as a record holds them ("inf").  Source: ours."""
    low, high = float(low), float(high)
    if low == high:
        return f"exactly {low:g}"
    if math.isinf(high):
        return "finite" if math.isinf(low) else f"at least {low:g}"
    return f"at most {high:g}" if math.isinf(low) else f"between {low:g} and {high:g}"


def claim(
    id: str,
    statement: str,
    measured: float,
    within: tuple[float, float],
    *,
    source: str = "ours",
    paper: str | None = None,
    verdict: str = "ours",
    members: int | None = None,
    spread: tuple[float, float] | None = None,
    unit: str = "",
    profile: str = "quick",
) -> Claim:
    """Assert low <= measured <= high and return the claim, which displays itself.

    A finding against a paper is a claim too: its bounds assert what we measured, its verdict says so.

    Raises AssertionError, with the number and the bounds, when the measured value is outside; ValueError when it is not
    one finite number, when the bounds or the spread are no pair of numbers, reversed or NaN, when the bounds hold every
    number or the spread not the measured one, for members that are no positive whole number, and for an unknown verdict
    or profile.

    Source: ours.
    """
    check_known(verdict, VERDICTS, "verdict")
    check_known(profile, PROFILES, "profile")
    low, high = _pair(within, f"claim {id!r}: within")
    value = real(measured, f"claim {id!r}: the measured value")
    if not low <= high:
        raise ValueError(f"claim {id!r}: bounds should be (low, high), got ({low:g}, {high:g})")
    if not math.isfinite(value):
        raise ValueError(f"claim {id!r}: the measured value is {value}, wanted a number between {low:g} and {high:g}")
    if (low, high) == (-math.inf, math.inf):
        raise ValueError(f"claim {id!r}: one of the bounds should be finite, ({low:g}, {high:g}) asserts nothing")
    if members is not None:
        check_positive(members, f"claim {id!r}: members")
        members = int(members)
    if not low <= value <= high:
        raise AssertionError(f"claim {id!r}: measured {value:.6g} is not between {low:g} and {high:g}: {statement}")
    span = None if spread is None else _pair(spread, f"claim {id!r}: the spread")
    if span is not None and not -math.inf < span[0] <= span[1] < math.inf:
        raise ValueError(f"claim {id!r}: the spread should be (smallest, largest), got ({span[0]:g}, {span[1]:g})")
    if span is not None and not span[0] <= value <= span[1]:
        raise ValueError(f"claim {id!r}: the spread ({span[0]:g}, {span[1]:g}) should hold the measured {value:g}")
    return Claim(id, statement, value, (low, high), source, paper, verdict, members, span, unit, profile)


def _pair(pair: Iterable[object], what: str) -> tuple[float, float]:
    try:
        low, high = (real(v, what) for v in pair)
    except (TypeError, ValueError):
        raise ValueError(f"{what} should be two real numbers, got {pair!r}") from None
    return low, high


def settings(profile: str, *, quick: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """The settings of a profile.

    Raises ValueError for an unknown profile, and when the two profiles do not name the same settings.  Source: ours.
    """
    check_known(profile, PROFILES, "profile")
    if quick.keys() != full.keys():
        raise ValueError(f"profiles should name the same settings, got quick {list(quick)} and full {list(full)}")
    return quick if profile == "quick" else full


def provenance(*, profile: str, device: str, seed: int, seconds: float) -> dict[str, Any]:
    """Where a result comes from: commit (with + when files were changed), device, versions, seed and wall time.

    Raises ValueError for an unknown profile, and for seconds that are no finite number of at least 0.  Source: ours.
    """
    check_known(profile, PROFILES, "profile")
    if not 0 <= real(seconds, "provenance: seconds") < math.inf:
        raise ValueError(f"provenance: seconds should be finite and at least 0, got {seconds}")
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "scipy", "sympy")}
    return {
        "commit": _commit(),
        "profile": profile,
        "device": device,
        "seed": seed,
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        **versions,
    }


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        # an executed notebook is made by the code, and no part of it
        code = (":(top)", ":(top,exclude)*.ipynb")
        changed = "+" if git("status", "--porcelain", "--untracked-files=no", "--", *code) else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _place(chapter: str, folder: Path | str) -> Path:
    name = Path(chapter)
    if not name.parts or name.is_absolute() or ".." in name.parts:
        raise ValueError(f"results: a chapter should be named part/name inside {folder}, got {chapter!r}")
    path = Path(folder, f"{chapter}.json")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, wanted a file of results")
    return path


def _check_origin(origin: object, where: str) -> None:
    if not isinstance(origin, dict) or (missing := [k for k in ORIGIN if k not in origin]):
        got = f"no {', '.join(missing)}" if isinstance(origin, dict) else type(origin).__name__
        raise ValueError(f"{where}: the provenance should hold {', '.join(ORIGIN)}; got {got}")
    real(origin["seconds"], f"{where}: the seconds of the provenance")


def save(chapter: str, values: dict[str, Any], origin: dict[str, Any], *, folder: Path | str = "../results") -> Path:
    """Write the results of a chapter with their provenance: folder/part/name.json, complete or not at all.

    `values` must be plain JSON without NaN that reads back as it was (text as keys, lists and no tuples); `origin`
    comes from `provenance`; the chapter names a file inside the folder.  Raises ValueError otherwise.  Source: ours.
    """
    path = _place(chapter, folder)
    _check_origin(origin, f"results of {chapter!r}")
    if not isinstance(values, dict):
        raise ValueError(f"results of {chapter!r}: values should be named, got {type(values).__name__}")
    record = {"schema": SCHEMA, "chapter": chapter, "provenance": origin, "values": values}
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"
        if json.loads(text) != record:
            raise ValueError("they would not read back the same (keys should be text, sequences lists)")
    except (TypeError, ValueError) as error:
        raise ValueError(f"results of {chapter!r}: values should be finite plain JSON: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def load(chapter: str, *, folder: Path | str = "../results") -> dict[str, Any]:
    """Read the saved results of a chapter: {"values": ..., "provenance": ...}.

    Raises FileNotFoundError when there is no such file; ValueError when it is truncated or no JSON, belongs to another
    chapter, lacks its values or (part of) its provenance, or was written in another schema, and when the chapter names
    no file inside the folder.  Source: ours.
    """
    path = _place(chapter, folder)
    if not path.exists():
        raise FileNotFoundError(f"no results of {chapter!r} at {path}: run the chapter at profile full to make them")
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a complete JSON file ({error}); run the chapter again") from None
    got = record.get("schema") if isinstance(record, dict) else None
    if type(got) is not int or got != SCHEMA:
        raise ValueError(f"{path}: written in schema {got}, this version reads {SCHEMA}; run the chapter again")
    if record.get("chapter") != chapter:
        raise ValueError(f"{path}: holds results of {record.get('chapter')!r}, wanted {chapter!r}")
    if missing := [k for k in ("values", "provenance") if k not in record]:
        raise ValueError(f"{path}: holds no {' and no '.join(missing)}; run the chapter again")
    if not isinstance(record["values"], dict):
        raise ValueError(
            f"{path}: values should be named, got {type(record['values']).__name__}; run the chapter again"
        )
    _check_origin(record["provenance"], str(path))
    return {"values": record["values"], "provenance": record["provenance"]}


@dataclass(frozen=True)
class Saved:
    """The saved numbers of a chapter's full run with their provenance, or the statement that there are none."""

    chapter: str
    values: dict[str, Any] | None
    origin: dict[str, Any] | None

    def __repr__(self) -> str:
        if self.values is None or self.origin is None:
            return f"No full run of {self.chapter} is recorded; the numbers of this page are those of profile quick."
        rows = [f"  {k}: {v:.4g}" if isinstance(v, float) else f"  {k}: {v}" for k, v in self.values.items()]
        return "\n".join([f"Full run of {self.chapter}: {provenance_line(self.origin)}", *rows])


def full_run(
    chapter: str,
    values: dict[str, Any],
    *,
    profile: str,
    device: str,
    seed: int,
    seconds: float,
    folder: Path | str = "../results",
) -> Saved:
    """Save the values when this is a full run; return what is saved of the last full run, for display.

    Raises what `save` and `load` raise, except that a missing file is no error: the display then says so.

    Source: ours.
    """
    if profile == "full":
        save(chapter, values, provenance(profile=profile, device=device, seed=seed, seconds=seconds), folder=folder)
    try:
        record = load(chapter, folder=folder)
    except FileNotFoundError:
        return Saved(chapter, None, None)
    return Saved(chapter, record["values"], record["provenance"])


def provenance_line(origin: dict[str, Any]) -> str:
    """The provenance of a result as one line of text.  Source: ours."""
    return (
        f"profile {origin['profile']}, {origin['device']}, seed {origin['seed']}, {origin['seconds']:g} s, "
        f"commit {origin['commit']}, Python {origin['python']}, torch {origin['torch']}"
    )
