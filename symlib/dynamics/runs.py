"""What a training run returns, what stops it, and what it keeps: records in memory, checkpoints on disk."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from reprlib import repr as short
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor
from tqdm import tqdm

from symlib.dynamics.losses import Params
from symlib.guards import check_known, check_positive

Observable = Callable[[Params], Tensor]
LIMIT = 2**31  # bytes that the records of one run may take


@dataclass(frozen=True)
class Run:
    """A training run: the last parameters and what was recorded, member axis first.

    `steps` (records,) holds the step (or the time of a flow) of each record; `log[name]` is (members, records, ...), or
    (records, ...) for a single network.  `lr` is the step size, one per member where they differ; `stopped` (members,)
    the step at which each member stopped, where some could stop early (the last step for those that did not).
    """

    theta: Params
    steps: Tensor
    log: Mapping[str, Tensor]
    lr: float | Tensor | None = None
    stopped: Tensor | None = None


class Divergence(ArithmeticError):
    """Training cannot go on.  `.step`, `.members` (indices) and `.run` (all that was recorded) say where and what."""

    def __init__(self, step: float, members: list[int], run: Run, why: str = "NaN or inf") -> None:
        who = f"members {members}" if members else "the network"
        super().__init__(f"training diverged at step {step:.10g}: {why} in {who}; .run holds what was recorded")
        self.step, self.members, self.run = step, members, run


def device(name: str = "auto") -> torch.device:
    """The device of a name: "cpu", "cuda" or "auto" (cuda where there is one).

    Raises ValueError for another name, or for cuda where there is none.  Source: ours.
    """
    check_known(name, ("auto", "cpu", "cuda"), "device")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': this machine has no CUDA device; take 'cpu' or 'auto'")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def grid(steps: int, every: int | Sequence[int] | Tensor) -> list[int]:
    """The steps at which a run records: 0, every so many, and the last; or those given, with 0 and the last.

    Raises ValueError for `every` that is no positive whole number and no increasing whole numbers in 0..steps.

    Source: ours.
    """
    if isinstance(every, Tensor) or (isinstance(every, Sequence) and not isinstance(every, str)):
        given = every.tolist() if isinstance(every, Tensor) else list(every)
        rising = all(a < b for a, b in pairwise(given)) and all(isinstance(p, int) for p in given)
        if not given or not rising or not 0 <= given[0] <= given[-1] <= steps:
            raise ValueError(f"every: wanted increasing whole steps in 0..{steps}, got {given[:10]}")
        return sorted({0, *given, steps})
    check_positive(every, "every")
    return [*range(0, steps, int(every)), steps]


def logarithmic(steps: int, per_decade: int = 20) -> list[int]:
    """Steps for `every`, evenly spaced in the logarithm: round(10^(k / per_decade)) up to `steps`, each once.

    Raises ValueError for numbers that are not positive and whole.  Source: ours.
    """
    check_positive(steps, "logarithmic: steps")
    check_positive(per_decade, "logarithmic: per_decade")
    exponents = range(int(per_decade * torch.log10(torch.tensor(float(steps)))) + 1)
    return sorted({0, steps, *(p for k in exponents if (p := round(10 ** (k / per_decade))) <= steps)})


def progress(steps: Iterable[int], start: int, total: int) -> Iterable[int]:
    """The steps behind a bar with rate and remaining time, in a terminal or notebook; silent in CI and files.

    The variables CI and TQDM_DISABLE silence it.  Source: tqdm.
    """
    quiet = any(os.environ.get(name, "") not in ("", "0", "false") for name in ("CI", "TQDM_DISABLE"))
    hidden = True if quiet else False if "ipykernel" in sys.modules else None  # None: shown on a terminal only
    return tqdm(steps, disable=hidden, initial=start, total=total, leave=False, unit="step", mininterval=0.5)


class Log:
    """What a run has recorded so far.  Memory is taken once, at the first record, and is refused above `LIMIT`."""

    def __init__(self, observables: Mapping[str, Observable], records: int) -> None:
        if "loss" in observables:
            raise ValueError("record: the name 'loss' is taken by the loss itself")
        self.observables, self.records = observables, records
        self.steps: list[float] = []
        self.values: dict[str, Tensor] = {}

    def add(self, step: float, value: Tensor, theta: Params) -> None:
        """Record the loss and the observables; theta is handed on as it is, without a copy."""
        here = {"loss": value, **{k: fn(theta).detach() for k, fn in self.observables.items()}}
        if not self.values:
            self._reserve(here)
        for k, v in here.items():
            self.values[k][len(self.steps)] = v
        self.steps.append(step)

    def _reserve(self, first: Mapping[str, Tensor]) -> None:
        size = {k: self.records * v.numel() * v.element_size() for k, v in first.items()}
        if sum(size.values()) > LIMIT:
            largest = max(size, key=lambda k: size[k])
            raise ValueError(
                f"record: {self.records} records take {sum(size.values()) / 2**30:.1f} GiB, most of it {largest!r} of "
                f"shape {tuple(first[largest].shape)}; record less often or less (the limit is {LIMIT / 2**30:g} GiB)"
            )
        self.values = {k: v.new_empty((self.records, *v.shape)) for k, v in first.items()}

    def run(self, theta: Params, lr: float | Tensor | None, stopped: Tensor | None = None) -> Run:
        """The run as far as it was recorded, member axis first."""
        single = bool(self.values) and self.values["loss"].ndim == 1
        taken = {k: v[: len(self.steps)] for k, v in self.values.items()}
        log = {k: v if single else v.movedim(0, 1) for k, v in taken.items()}
        return Run(theta, torch.tensor(self.steps, dtype=torch.float64), log, lr, stopped)


def digest(values: Mapping[str, Any]) -> str:
    """A fingerprint of named tensors and numbers: SHA-256 of names, dtypes, shapes and bytes.

    Source: FIPS 180-4.
    """
    found = sha256()
    for name, value in values.items():
        held = value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(value)
        wide = held.double() if held.is_floating_point() else held  # exact, and numpy has no bfloat16
        found.update(f"{name} {held.dtype} {tuple(held.shape)} ".encode() + wide.numpy().tobytes())
    return found.hexdigest()


def write_checkpoint(path: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint, complete or not at all: a temporary file, flushed to the disk, then renamed.

    Source: ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save({"settings": settings, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint of the run with these settings.

    Raises ValueError for a file that is no checkpoint, and for one of another run, with the settings that differ.

    Source: ours.
    """
    try:
        with ZipFile(path) as archive:  # torch.load reads past a lost last byte and past a wrong checksum
            if archive.testzip() is not None:
                raise ValueError("damaged")
        found = torch.load(path, weights_only=True)
        kept, state = dict(found["settings"]), dict(found["state"])
    except Exception as error:  # torch.load raises what its parts raise
        raise ValueError(f"{path}: no complete checkpoint ({type(error).__name__}); remove it to begin again") from None
    differ = [k for k in settings if not _same(kept.get(k), settings[k])]
    if differ:
        was = ", ".join(f"{k} {short(kept.get(k))} instead of {short(settings[k])}" for k in differ)
        raise ValueError(f"{path}: a checkpoint of another run ({was}); remove it or name another file")
    return state


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and a == b
