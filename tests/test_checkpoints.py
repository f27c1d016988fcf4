"""A checkpointed run, killed by SIGKILL at many moments, ends with the bits of a run that was left alone.

Also that a damaged or foreign file is refused, and that no write leaves half a file.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from symlib.dynamics import descend, runs
from tests.ensembles import F64, LOSS, Watched, batches, start

ROOT = Path(__file__).parents[1]


def case(name):
    """The arguments of a run that has what the name says."""
    kind = {
        "momentum": {"momentum": torch.tensor([0.0, 0.5, 0.9], dtype=F64), "decay": 0.01},
        "adam": {"method": "adam", "lr": 0.01, "anchor": start(7)},
        "stopped": {"until": lambda v: (v - torch.tensor([2.35, 1.78, 99.0])).abs() < 0.03},  # at 7, at 56, never
    }[name]
    return {"loss": LOSS, "theta": start(), "steps": 60, "lr": 0.2, "batches": batches(), "every": 7,
            "record": {"W1": lambda t: t["W1"]}, **kind}  # fmt: skip


def same_run(a, b):
    pairs = [(a.theta[k], v) for k, v in b.theta.items()] + [(a.log[k], v) for k, v in b.log.items()]
    pairs += [(a.steps, b.steps)] + ([] if b.stopped is None else [(a.stopped, b.stopped)])
    return a.theta.keys() == b.theta.keys() and all(torch.equal(p, q) for p, q in pairs)


KILLER = """
import os, signal, sys, torch
from symlib.dynamics import descend
from tests import test_checkpoints as t
torch.set_num_threads(1)

def attempt(name, path, last):
    loss, calls = t.LOSS, [0]
    class Dies:
        def gradient(self, *a):
            calls[0] += 1
            if calls[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return loss.gradient(*a)
    run = descend(**{**t.case(name), "loss": Dies()}, checkpoint=path, save_every=4)
    torch.save([dict(run.theta), run.steps, dict(run.log), None, run.stopped], path + ".done")

name, path, *lasts = sys.argv[1:]
for last in lasts:
    pid = os.fork()
    if pid == 0:
        attempt(name, path, int(last))
        os._exit(0)
    how = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    step = torch.load(path, weights_only=True)["state"]["step"] if os.path.exists(path) else 0
    sys.stdout.write(f"{how}:{step} ")
"""


@pytest.mark.parametrize("name", ["momentum", "adam", "stopped"])
def test_a_killed_run_ends_with_the_bits_of_one_left_alone(name, tmp_path):
    """SIGKILL in step 3 (no checkpoint yet), then 15, 22 and 1 steps later; a process of its own each time."""
    path = tmp_path / "deep" / "run.pt"
    words = [sys.executable, "-c", KILLER, name, str(path), "3", "15", "22", "1", "0"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("-9:0 -9:12 -9:32 -9:32 0:60 ", 0), done.stderr
    resumed = runs.Run(*torch.load(f"{path}.done", weights_only=True))
    assert same_run(resumed, descend(**case(name)))
    assert name != "stopped" or resumed.stopped.tolist() == [7, 56, 60]
    other = {**case(name), "batches": batches(9)}  # control: other data orders, other bits
    assert not same_run(resumed, descend(**other))
    assert not list(path.parent.glob(".*"))  # no temporary file is left behind


def save_at(path, step, **changes):
    """A checkpoint of a momentum run, as if it had been killed after `step` steps."""

    class Interrupted(Exception):
        pass

    class Stops(Watched):
        def gradient(self, theta, *batch):
            if len(self.places) >= step:
                raise Interrupted
            return super().gradient(theta, *batch)

    with pytest.raises(Interrupted):
        descend(**{**case("momentum"), **changes, "loss": Stops()}, checkpoint=path, save_every=step)


@pytest.mark.parametrize("step", range(1, 8))
def test_every_step_of_an_epoch_can_be_resumed(step, tmp_path):
    """Three batches in an epoch: the stream goes on from its start, its middle and its end."""
    save_at(tmp_path / "a", step)
    assert torch.load(tmp_path / "a", weights_only=True)["state"]["batches"]["taken"] == (step - 1) % 3 + 1
    assert same_run(descend(**case("momentum"), checkpoint=tmp_path / "a"), descend(**case("momentum")))


def test_a_resumed_run_does_not_begin_again(tmp_path):
    save_at(tmp_path / "a", 30)
    loss = Watched()
    descend(**{**case("momentum"), "loss": loss}, checkpoint=tmp_path / "a", save_every=1000)
    assert len(loss.places) == 61 - 30


def test_numbers_of_numpy_can_be_saved(tmp_path):
    numbers = {"lr": np.float64(0.1), "momentum": np.float32(0.5), "steps": np.int64(6), "every": np.int64(2)}
    run = lambda: descend(**{**case("momentum"), **numbers}, checkpoint=tmp_path / "a", save_every=2)  # noqa: E731
    assert same_run(run(), run())


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99, -1])
def test_a_damaged_checkpoint_is_refused(keep, tmp_path):
    path = tmp_path / "a"
    save_at(path, 8)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"no complete checkpoint .* remove it to begin again"):
        descend(**case("momentum"), checkpoint=path)


def test_a_flipped_bit_is_found(tmp_path):
    """Anywhere in the stored numbers of the parameters, found by their bytes."""
    path = tmp_path / "a"
    save_at(path, 8)
    whole = bytearray(path.read_bytes())
    value = next(iter(torch.load(path, weights_only=True)["state"]["theta"].values()))
    place = whole.index(value.numpy().tobytes())
    whole[place + 3] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        descend(**case("momentum"), checkpoint=path)


@pytest.mark.parametrize("content", [b"text", None, {"settings": {}}, [1, 2], {"settings": 1, "state": 2}])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        descend(**case("momentum"), checkpoint=path)
    assert path.exists()  # it may be somebody's


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"lr": 0.1}, "lr 0.2 instead of 0.1"), ({"steps": 61}, "steps 60 instead of 61"), ({"every": 5}, "every"),
     ({"momentum": 0.9}, "momentum"), ({"decay": 0.0}, "decay"), ({"method": "sign", "momentum": 0.0}, "method"),
     ({"anchor": start(7)}, "anchor"), ({"theta": start(2)}, "start"), ({"batches": batches(3)}, "batches"),
     ({"theta": {k: v.float() for k, v in start().items()}}, "start"), ({"record": {}}, "records")],
)  # fmt: skip
def test_a_checkpoint_of_another_run_is_refused(changed, named, tmp_path):
    save_at(tmp_path / "a", 8)
    with pytest.raises(ValueError, match=f"a checkpoint of another run .*{named}") as error:
        descend(**{**case("momentum"), **changed}, checkpoint=tmp_path / "a")
    assert len(str(error.value)) < 1000


def test_batches_that_cannot_go_back_are_refused_at_once(tmp_path):
    given = {**case("momentum"), "batches": iter(batches())}
    assert same_run(descend(**given, checkpoint=tmp_path / "a"), descend(**case("momentum")))
    with pytest.raises(ValueError, match=r"need state\(\) and restore\(state\)"):
        descend(**{**given, "batches": itertools.islice(batches(), 99)}, checkpoint=tmp_path / "b")


@pytest.mark.parametrize("moment", ["save", "fsync", "replace"])
def test_a_failing_write_leaves_the_last_checkpoint(moment, tmp_path, monkeypatch):
    """A full disk or an interrupt in any part of the writing: the old file stays, complete, and nothing else."""
    path = tmp_path / "a"
    save_at(path, 8)
    before = path.read_bytes()

    def fails(*arguments):
        if moment == "save":
            arguments[1].write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch if moment == "save" else os, moment, fails)
    with pytest.raises(OSError, match="no space left"):
        descend(**case("momentum"), checkpoint=path, save_every=4)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
