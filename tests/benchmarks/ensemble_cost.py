"""What a member-step costs: the engine, the loop a user would write, torch.func.vmap(grad), and the floor of the work.

One network for all: 64 inputs, one hidden layer of ReLU, 10 classes, cross-entropy, a batch of 128 that stays in
memory, float32, gradient descent without momentum.  A member-step is one gradient and one step of one network.

The floor is the larger of two times that no program on this machine can beat: the floating-point work of a member-step
at the rate of one large matrix product, and the bytes of its parameters, read once and written once, at the rate of a
large copy.  Both rates are measured between the repeats of what they are compared with, and of everything the best
repeat counts: another process on the machine then slows all alike, or is left out.

`python -m tests.benchmarks.ensemble_cost --save` measures with one thread and with two, each in a process of its own,
and writes book/results/appendix/ensemble-cost.json with its provenance.  Without `--save` it prints the numbers of this
process as JSON.  `--device cuda` adds 4,096 members and waits for the device before it reads the clock; that was
written without a GPU and has not been run on one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy

from symlib import results
from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss, cross_entropy, descend

ROOT = Path(__file__).resolve().parents[2]
INPUTS, CLASSES, BATCH, LR = 64, 10, 128, 0.05
WIDTHS, MEMBERS, ON_GPU = (16, 64, 256), (1, 16, 64, 512), (4096,)
COMPILED = {(64, 1), (64, 16), (64, 64), (64, 512)}  # every shape takes seconds to compile
MODELS = 64  # the loop over more models is timed on so many: a model costs the same beside 64 or 512 others
LARGE, COPIED = 2048, 2**26  # side of the matrix product; numbers that are copied (256 MiB)
ROUNDS, SECONDS = 5, 0.15  # repeats, and about how long each is

Train = Callable[[int], dict[str, torch.Tensor]]  # so many steps from the start -> parameters with a member axis


@dataclass(frozen=True)
class Task:
    """So many networks of one width, and the batch they all see."""

    width: int
    members: int
    device: torch.device

    def data(self) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        gen = torch.Generator().manual_seed(0)
        theta = mlp((INPUTS, self.width, CLASSES), "relu").init(gen, torch.float32, members=self.members)
        x, y = torch.randn(INPUTS, BATCH, generator=gen), torch.randint(CLASSES, (BATCH,), generator=gen)
        return {k: v.to(self.device) for k, v in theta.items()}, x.to(self.device), y.to(self.device)

    def flops(self) -> int:
        """Of a member-step: two products with W1 (forward, its gradient), three with W2 (also the hidden gradient)."""
        return 2 * BATCH * self.width * (2 * INPUTS + 3 * CLASSES)

    def bytes(self) -> int:
        return 2 * 4 * (self.width * (INPUTS + 1 + CLASSES) + CLASSES)


# the ways to train


def engine(task: Task, *, layered: bool = True, compiled: bool = False) -> Train:
    """`descend`, which takes one gradient more than steps: it is asked for one step less."""
    theta, x, y = task.data()
    arch = mlp((INPUTS, task.width, CLASSES), "relu")
    loss = LayeredLoss("relu", "cross-entropy") if layered else lambda t, x, y: cross_entropy(arch(t, x), y)

    def train(steps: int) -> dict[str, torch.Tensor]:
        n = max(steps - 1, 1)
        run = descend(loss, theta, steps=n, lr=LR, batches=repeat((x, y)), every=n, compiled=compiled)
        return dict(run.theta)

    return train


def loop(task: Task) -> Train:
    """One module and one optimizer for each network, samples as rows: what PyTorch's tutorials show."""
    theta, x, y = task.data()
    models = []
    for i in range(task.members):
        first, last = torch.nn.Linear(INPUTS, task.width), torch.nn.Linear(task.width, CLASSES)
        model = torch.nn.Sequential(first, torch.nn.ReLU(), last).to(task.device)
        with torch.no_grad():
            for k, layer in (("1", first), ("2", last)):
                layer.weight.copy_(theta[f"W{k}"][i])
                layer.bias.copy_(theta[f"b{k}"][i].squeeze(1))
        models.append((model, torch.optim.SGD(model.parameters(), lr=LR)))
    rows = x.T.contiguous()

    def train(steps: int) -> dict[str, torch.Tensor]:
        for _ in range(steps):
            for model, optimizer in models:
                optimizer.zero_grad()
                torch_cross_entropy(model(rows), y).backward()
                optimizer.step()
        parts = {"W1": "0.weight", "b1": "0.bias", "W2": "2.weight", "b2": "2.bias"}
        states = [m.state_dict() for m, _ in models]
        found = {k: torch.stack([s[name] for s in states]) for k, name in parts.items()}
        return {k: v if k[0] == "W" else v.unsqueeze(2) for k, v in found.items()}

    return train


def vmapped(task: Task) -> Train:
    """torch.func.vmap over grad of a network written for one, samples as rows."""
    theta, x, y = task.data()
    rows = x.T.contiguous()

    def loss(one: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = torch.relu(rows @ one["W1"].T + one["b1"].T)
        return torch_cross_entropy(hidden @ one["W2"].T + one["b2"].T, y)

    gradients = torch.func.vmap(torch.func.grad(loss))

    def train(steps: int) -> dict[str, torch.Tensor]:
        now = theta
        for _ in range(steps):
            grads = gradients(now)
            now = {k: v - LR * grads[k] for k, v in now.items()}
        return now

    return train


WAYS: dict[str, Callable[[Task], Train]] = {
    "engine": engine,
    "autograd": lambda task: engine(task, layered=False),
    "loop": loop,
    "vmap": vmapped,
    "compiled": lambda task: engine(task, compiled=True),
}


# the clock


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The wall time of some work, with the device idle before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def cell(width: int, members: int, device: torch.device, *, rounds: int = ROUNDS, long: float = SECONDS) -> dict:
    """All ways and the floor for one width and one number of members, in microseconds of a member-step."""
    task = Task(width, members, device)
    a, big = (torch.rand(n, device=device) for n in (LARGE * LARGE, COPIED))
    a, other = a.view(LARGE, LARGE), torch.empty_like(big)
    found: dict = {"width": width, "members": members}
    trains, counts, steps = {}, {}, {}
    for name, make in WAYS.items():
        if name == "compiled" and (width, members) not in COMPILED:
            continue
        counts[name] = min(members, MODELS) if name == "loop" else members
        trains[name] = make(Task(width, counts[name], device))
        first = seconds(lambda name=name: trains[name](2), device)
        again = seconds(lambda name=name: trains[name](2), device)
        steps[name] = max(3, min(2000, int(long / (again / 2))))
        if name == "compiled":
            found["compile_s"] = round(first - again, 1)
    best = dict.fromkeys(["matmul", "copy", *trains], float("inf"))
    for _ in range(rounds):
        work = {"matmul": lambda: a @ a, "copy": lambda: other.copy_(big)}
        work |= {name: lambda name=name: trains[name](steps[name]) for name in trains}
        for name, job in work.items():
            best[name] = min(best[name], seconds(job, device))
    rate, bandwidth = 2 * LARGE**3 / best["matmul"], 2 * 4 * COPIED / best["copy"]
    found |= {"gflops": round(rate / 1e9, 1), "gbytes": round(bandwidth / 1e9, 1)}
    found["floor_us"] = round(1e6 * max(task.flops() / rate, task.bytes() / bandwidth), 3)
    found["floor_is"] = "flops" if task.flops() / rate >= task.bytes() / bandwidth else "bytes"
    return found | {f"{name}_us": round(1e6 * best[name] / steps[name] / counts[name], 3) for name in trains}


def disagreement(width: int, members: int, device: torch.device) -> float:
    """The largest distance of any way's parameters from the loop's after four steps: all do the same work."""
    ends = {name: make(Task(width, members, device))(4) for name, make in WAYS.items() if name != "compiled"}
    start = Task(width, members, device).data()[0]
    # the engine stops a step earlier: see `engine`
    shorter = loop(Task(width, members, device))(3)
    gaps = [(end[k] - (shorter if name in ("engine", "autograd") else ends["loop"])[k]).abs().max()
            for name, end in ends.items() for k in start]  # fmt: skip
    return float(torch.stack(gaps).max())


COLUMNS = ("floor", "engine", "compiled", "autograd", "loop", "vmap")


def table(cells: list[dict]) -> list[str]:
    """The cells as lines of text."""
    head = " ".join(f"{name:>8}" for name in ("width", "members", *COLUMNS))
    lines = ["microseconds of a member-step", f"{head}  engine/floor  loop/engine"]
    for c in cells:
        times = [f"{c[f'{name}_us']:8.2f}" if f"{name}_us" in c else f"{'.':>8}" for name in COLUMNS]
        ratios = f"{c['engine_us'] / c['floor_us']:12.2f}  {c['loop_us'] / c['engine_us']:11.2f}"
        note = f"  compiled in {c['compile_s']} s" if "compile_s" in c else ""
        lines.append(f"{c['width']:8} {c['members']:8} {' '.join(times)}  {ratios}{note}")
    return lines


def goals(cells: list[dict], threads: int) -> list[str]:
    """The three goals, with what was measured."""
    middle = next(c for c in cells if (c["width"], c["members"]) == (64, 64))
    gain, least = middle["loop_us"] / middle["engine_us"], 4 if threads == 1 else 10
    floors = middle["engine_us"] / middle["floor_us"]
    alone = max(c["engine_us"] / c["loop_us"] for c in cells if c["members"] == 1)
    rows = [
        (gain >= least, f"64 members of width 64: {gain:.2f} times as fast as the loop, goal at least {least}"),
        (floors <= 1.6, f"64 members of width 64: {floors:.2f} times the floor, goal at most 1.6"),
        (alone <= 1.2, f"one member, the worst width: {alone:.2f} times the loop, goal at most 1.2"),
    ]
    return [f"{'reached' if met else 'missed'}: {what}" for met, what in rows]


def measure(device: torch.device) -> dict:
    """All cells on a device with the threads this process has."""
    sizes = MEMBERS + (ON_GPU if device.type == "cuda" else ())
    cells = [cell(width, members, device) for width in WIDTHS for members in sizes]
    threads = torch.get_num_threads()
    return {"threads": threads, "device": str(device), "cells": cells, "goals": goals(cells, threads)}


def save(device: str) -> Path:
    """Measure with one and with two threads, each in a process of its own, and write the numbers."""
    begin, found = time.perf_counter(), {}
    for threads in ("1", "2") if device == "cpu" else ("1",):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TQDM_DISABLE": "1"}
        words = [sys.executable, "-m", "tests.benchmarks.ensemble_cost", "--device", device]
        run = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[f"threads {threads}"] = json.loads(run.stdout)
    origin = results.provenance(profile="full", device=device, seed=0, seconds=time.perf_counter() - begin)
    return results.save("appendix/ensemble-cost", found, origin, folder=ROOT / "book" / "results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="measure with 1 and 2 threads and write the results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    chosen = parser.parse_args()
    done = save(chosen.device) if chosen.save else json.dumps(measure(torch.device(chosen.device)), indent=1)
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    main()
