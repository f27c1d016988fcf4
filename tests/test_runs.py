"""What a run keeps and shows: records on a grid, without a copy of the parameters, and a progress bar."""

import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import torch

from symlib.dynamics import descend, logarithmic, runs
from tests.ensembles import LOSS, Watched, batches, start

ROOT = Path(__file__).parents[1]

# the grid


@pytest.mark.parametrize(
    ("steps", "every", "points"),
    [(10, 4, [0, 4, 8, 10]), (4, 9, [0, 4]), (9, [2, 3], [0, 2, 3, 9]), (9, [0, 9], [0, 9]), (9, (5,), [0, 5, 9]),
     (9, torch.tensor([1, 8]), [0, 1, 8, 9]), (9, range(3, 6), [0, 3, 4, 5, 9])],
)  # fmt: skip
def test_records_are_taken_on_the_grid(steps, every, points):
    seen = []
    run = descend(LOSS, start(), steps=steps, lr=0.1, every=every, batches=batches(), record={"s": lambda t: t["b2"]})
    assert run.steps.tolist() == points and run.log["s"].shape == (3, len(points), 2, 1)
    whole = descend(
        LOSS, start(), steps=steps, lr=0.1, batches=batches(), record={"s": lambda t: seen.append(1) or t["b2"]}
    )
    assert torch.equal(run.log["loss"], whole.log["loss"][:, points]) and len(seen) == steps + 1
    assert torch.equal(run.log["s"], whole.log["s"][:, points])


@pytest.mark.parametrize("every", [[], [3, 2], [1, 1], [-1, 2], [5, 10], [1.5], torch.tensor([0.5]), "12", None])
def test_what_is_no_grid_is_refused(every):
    with pytest.raises(ValueError, match="every"):
        descend(LOSS, start(), steps=9, lr=0.1, every=every, batches=batches())


def test_a_logarithmic_grid_has_so_many_points_in_a_decade():
    grid = logarithmic(10_000, 10)
    assert grid[0] == 0 and grid[-1] == 10_000 and grid == sorted(set(grid))
    late = [p for p in grid if 100 <= p <= 10_000]
    assert len(late) == 21 and all(abs(b / a - 10**0.1) <= 0.01 for a, b in itertools.pairwise(late))
    assert logarithmic(1) == [0, 1] and logarithmic(1000, 1) == [0, 1, 10, 100, 1000]
    assert logarithmic(999, 3)[-2:] == [464, 999]  # the end is no point of the grid by itself
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="logarithmic"):
            logarithmic(bad)
        with pytest.raises(ValueError, match="per_decade"):
            logarithmic(10, bad)


# records


def test_records_see_the_parameters_themselves():
    loss, seen = Watched(), []

    def look(theta):
        seen.append({k: v.data_ptr() for k, v in theta.items()})
        return theta["b2"]

    run = descend(loss, start(), steps=20, lr=0.1, every=5, batches=batches(), record={"b2": look})
    assert seen == loss.places[::5] and len(seen) == 5
    loss, seen = Watched(), []
    copied = {"b2": lambda t: look({k: v.clone() for k, v in t.items()})}
    descend(loss, start(), steps=20, lr=0.1, every=5, batches=batches(), record=copied)
    assert all(a != b for a, b in zip(seen, loss.places[::5], strict=True))  # control: a copy lies elsewhere
    before = run.log["b2"].clone()
    run.theta["b2"].zero_()
    assert torch.equal(run.log["b2"], before)  # what is recorded is its own


def test_records_take_their_memory_once():
    log = runs.Log({"w": lambda t: t["w"]}, 4)
    places = []
    for step in range(4):
        log.add(step, torch.ones(2), {"w": torch.full((2, 3), float(step))})
        places.append(log.values["w"].data_ptr())
        assert log.values["w"].shape == (4, 2, 3)
    assert len(set(places)) == 1 and log.values["w"][:, 0, 0].tolist() == [0, 1, 2, 3]


def test_records_beyond_the_limit_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(runs, "LIMIT", 11 * (3 * 18 + 3) * 8)  # W1 of three members and their losses, 11 times
    loss = Watched()
    go = lambda steps: descend(loss, start(), steps=steps, lr=0.1, batches=batches(), record={"W1": lambda t: t["W1"]})  # noqa: E731
    assert go(10).log["W1"].shape == (3, 11, 6, 3)
    loss.places.clear()
    with pytest.raises(ValueError, match=r"12 records take 0\.0 GiB, most of it 'W1' of shape \(3, 6, 3\)"):
        go(11)
    assert len(loss.places) == 1  # nothing but the start was looked at


# progress

BAR = """
import os, sys, time
from symlib.dynamics import runs
for word in sys.argv[1:]:
    name, value = word.split("=")
    os.environ.pop("CI", None), os.environ.pop("TQDM_DISABLE", None)
    os.environ[name] = value
    sys.stderr.write(f"<<{word}>>")
    for _ in runs.progress(range(150), 0, 150):
        time.sleep(0.01 if name == "NOTHING" and sys.stderr.isatty() else 0)
"""
WORDS = ["NOTHING=", "CI=1", "CI=true", "TQDM_DISABLE=1", "CI=0", "TQDM_DISABLE=false"]
SHOWN = {"NOTHING=", "CI=0", "TQDM_DISABLE=false"}


def in_terminal(*words):
    """What a process writes to a terminal of its own, 80 columns wide."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(words, cwd=ROOT, stdout=side, stderr=side, stdin=side) as process:
        os.close(side)
        found, part = b"", b"."
        while part:
            try:
                part = os.read(main, 4096)
            except OSError:  # how Linux says that the other side is closed
                part = b""
            found += part
        os.close(main)
    assert process.returncode == 0, found
    return found.decode()


def parts(text):
    _, *pieces = re.split("<<(.*?)>>", text)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def test_the_bar_is_shown_in_terminals_only_and_silent_in_ci():
    shown = parts(in_terminal(sys.executable, "-c", BAR, *WORDS))
    assert {word for word, text in shown.items() if text} == SHOWN and list(shown) == WORDS
    lines = [line for line in shown["NOTHING="].split("\r") if "step/s" in line]
    assert any("/150 [00:0" in line and "<00:0" in line for line in lines)  # elapsed<remaining, and the rate
    run = subprocess.run([sys.executable, "-c", BAR, *WORDS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "" and parts(run.stderr) == dict.fromkeys(WORDS, "")


def test_a_notebook_sees_the_bar_though_it_is_no_terminal(monkeypatch, capsys):
    for name in ("CI", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    list(runs.progress(range(3), 0, 3))
    assert "step/s" in capsys.readouterr().err
    monkeypatch.setenv("CI", "true")
    list(runs.progress(range(3), 0, 3))
    assert capsys.readouterr().err == ""
