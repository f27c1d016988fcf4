"""No step makes the host wait for the device, and a compiled run is the run.

Without a GPU, one step runs on fake CUDA tensors, which hold no numbers: to ask for one is an error.  A whole run on
tensors that only say that they are on a GPU counts what would make the host wait: reading a number, or copying one.
"""

import itertools
import shutil

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from symlib import data
from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss, cross_entropy, descend, descent, runs
from symlib.dynamics.steps import METHODS

K = 4
ARCH = mlp((3, 5, 4), "relu")
LOSS = LayeredLoss("relu", "cross-entropy")


def autograd(theta, x, y):
    return cross_entropy(ARCH(theta, x), y)


class Waits:
    """A loss that reads a number in every step: what the tests must see."""

    def gradient(self, theta, x, y):
        value, grad = LOSS.gradient(theta, x, y)
        return (value, grad) if float(value.sum()) > -1 else (value, {k: 2 * g for k, g in grad.items()})


# one step on fake tensors


def step_on_fakes(loss, method, stopping):
    lead = lambda shape: torch.empty(K, *shape, device="cuda")  # noqa: E731
    with FakeTensorMode():
        theta, anchor = ({k: lead(s) for k, s in ARCH.shapes.items()} for _ in range(2))
        x, y = torch.empty(3, 7, device="cuda"), torch.zeros(7, dtype=torch.long, device="cuda")
        step, names = METHODS[method]
        state = {name: {k: torch.zeros_like(v) for k, v in theta.items()} for name in names}
        rates = {**{k: torch.empty(K, device="cuda") for k in ("lr", "momentum", "decay")}, "anchor": anchor}
        alive = torch.ones(K, dtype=torch.bool, device="cuda") if stopping else None
        value, moved, state = descent._advance(loss, step, theta, state, (x, y), 3, rates, 1.0, alive)
        return [value, *moved.values(), *(v for part in state.values() for v in part.values())]


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_asks_for_no_number_and_leaves_nothing_on_the_host(method, stopping):
    found = step_on_fakes(LOSS, method, stopping)
    assert {v.device.type for v in found} == {"cuda"}
    no_number = r"_local_scalar_dense|not linked with support for cuda"  # the second where torch is built without CUDA
    with pytest.raises(RuntimeError, match=no_number):
        step_on_fakes(Waits(), method, stopping)


# a whole run on tensors that say that they are on a GPU


class OnGpu(torch.Tensor):
    is_cuda = True


def on_gpu(value):
    return value.as_subclass(OnGpu)


class Count(TorchDispatchMode):
    """Counts the operations that would make the host wait: numbers read, shapes that depend on them, new constants."""

    NAMES = ("_local_scalar_dense", "is_nonzero", "item", "nonzero", "equal", "unique", "masked_select", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if any(name == n or name.startswith(f"{n}_") for n in self.NAMES):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def waits(loss, steps, *, own_orders=True, **settings):
    """What makes the host wait in a run with two records, the start and the end."""
    gen = torch.Generator().manual_seed(0)
    start = {k: on_gpu(v) for k, v in ARCH.init(gen, torch.float32, members=K).items()}
    x, y = on_gpu(torch.randn(3, 12, generator=gen)), on_gpu(torch.randint(4, (12,), generator=gen))
    batches = data.minibatches(x, y, 4, gen, members=K if own_orders else None)
    with Count() as count:
        run = descend(loss, start, steps=steps, lr=0.1, batches=batches, every=steps, **settings)
    assert run.log["loss"].shape == (K, 2)
    return count.waits


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9, "decay": 0.1, "own_orders": False}, {"method": "adam"}, {"method": "sign"},
     {"diverged": "stop"}, {"until": lambda v: v < 0}, {"record": {"W1": lambda t: t["W1"]}}],
    ids=["sgd", "momentum", "adam", "sign", "diverged", "until", "record"],
)  # fmt: skip
@pytest.mark.parametrize("loss", [LOSS, autograd], ids=["layered", "autograd"])
def test_a_run_waits_at_its_records_only(loss, settings):
    short, long = waits(loss, 5, **settings), waits(loss, 45, **settings)
    assert sorted(short) == sorted(long)
    assert len(waits(Waits(), 45, **settings)) >= len(waits(Waits(), 5, **settings)) + 40


def test_on_a_cpu_every_loss_is_looked_at():
    """There it costs little, and a run that diverges ends at once; the count is seen to work."""
    gen = torch.Generator().manual_seed(0)
    start, x = ARCH.init(gen, members=K), torch.randn(3, 12, generator=gen, dtype=torch.float64)
    batch = x, torch.randint(4, (12,), generator=gen)
    with Count() as count:
        descend(LOSS, start, steps=50, lr=0.1, batches=itertools.repeat(batch), every=50)
    assert len(count.waits) >= 50


def test_streams_draw_without_waiting():
    gen = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 12, generator=gen), torch.randn(1, 12, generator=gen)
    for stream in (data.minibatches(x, y, 4, gen, members=K), data.hypercube([[0], [0, 1, 2]], 5, 7, gen, members=K)):
        next(stream)
        with Count() as count:
            for _ in range(10):
                next(stream)
        assert count.waits == []
    with Count() as count:  # control: a list as an index is copied to the device every time
        x[..., [0, 2], :]
    assert count.waits == ["lift_fresh"]


def test_a_divergence_is_seen_at_the_next_record():
    start = {"w": on_gpu(torch.full((2, 1), 3.0))}
    go = lambda **k: descend(lambda t: -t["w"].pow(4).sum(-1), start, steps=30, lr=0.1, **k)  # noqa: E731
    with pytest.raises(runs.Divergence) as caught:
        go(every=[20])
    assert caught.value.step == 20 and caught.value.members == [0, 1]
    with pytest.raises(runs.Divergence) as caught:
        go()
    assert caught.value.step < 10


# compiled runs

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="torch.compile on a CPU needs a C++ compiler"
)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # of the compiler's own parts
@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_a_compiled_run_is_the_run(method):
    gen = torch.Generator().manual_seed(0)
    start, x = ARCH.init(gen, members=K), torch.randn(3, 12, generator=gen, dtype=torch.float64)
    batch = x, torch.randint(4, (12,), generator=gen)
    lr = torch.tensor([0.1, 0.2, 0.05, 0.1], dtype=torch.float64)
    go = lambda **k: descend(  # noqa: E731
        LOSS, start, steps=20, lr=lr, decay=0.01, method=method, batches=itertools.repeat(batch), **k
    )
    eager, compiled = go(), go(compiled=True)
    away = max(float((eager.theta[k] - v).abs().max()) for k, v in compiled.theta.items())
    assert away <= 1e-13 and float((eager.log["loss"] - compiled.log["loss"]).abs().max()) <= 1e-13
    assert float((go(anchor=start).theta["W1"] - eager.theta["W1"]).abs().max()) >= 1e-5  # control: another run is not
