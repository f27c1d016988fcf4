"""Weight matching of two independent networks 784-1024-1024-1024-10 with biases: permutations, float64, one start.

Goal: at most 1 s on two threads.  Beside it a straightforward port, written for this comparison, of the published
algorithm (Ainsworth et al., arXiv 2209.04836, algorithm 1, as in its public code): the whole cost matrix is formed anew
for every layer, from tensors that carry all other permutations as matrices or by index, and all sweeps take the layers
in random order; ours begins with one that goes outward.  On a busy machine add --benchmark-timer=time.process_time.
"""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from symlib.architectures import mlp
from symlib.orbits import align

WIDTH, THREADS = 1024, 2


@pytest.fixture(scope="module", autouse=True)
def two_threads(one_thread):
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(1)


def pair(kind, width=WIDTH):
    arch, gen = mlp((784, width, width, width, 10), kind), torch.Generator().manual_seed(0)
    return arch, arch.init(gen), arch.init(gen)


def port(arch, a, b, generator, *, dense):
    """Algorithm 1 as published; with `dense` the permutations are applied as matrices, otherwise by index."""
    spaces = list(arch.activations)
    orders = {s: torch.arange(arch.size(s)) for s in spaces}

    def moved(k, but):
        value = b[k]
        for axis, label in enumerate(arch.axes[k]):
            space = (label or "").rstrip("*")
            if space in orders and space != but:
                if dense:
                    P = torch.eye(len(orders[space]), dtype=value.dtype)[orders[space]]
                    value = P @ value if axis == 0 else value @ P.T
                else:
                    value = value.index_select(axis, orders[space])
        return value

    progress, sweeps = True, 0
    while progress and sweeps < 100:
        progress, sweeps = False, sweeps + 1
        for i in torch.randperm(len(spaces), generator=generator).tolist():
            space, n = spaces[i], arch.size(spaces[i])
            cost = torch.zeros(n, n, dtype=torch.float64)
            for k, labels in arch.axes.items():
                for axis, label in enumerate(labels):
                    if (label or "").rstrip("*") == space:
                        left, right = (v.movedim(axis, 0).reshape(n, -1) for v in (a[k], moved(k, space)))
                        cost += left @ right.T
            order = torch.from_numpy(linear_sum_assignment(cost.numpy(), maximize=True)[1])
            rows = torch.arange(n)
            progress |= bool(cost[rows, order].sum() > cost[rows, orders[space]].sum() + 1e-12)
            orders[space] = order
    return sum(float((a[k] * moved(k, None)).sum()) for k in a), sweeps


@pytest.mark.parametrize("kind", ["gelu", "tanh"])
def test_align(benchmark, kind):
    benchmark.group = "weight matching"
    arch, a, b = pair(kind)
    run = lambda: align(arch, a, b, generator=torch.Generator().manual_seed(1))  # noqa: E731
    found = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info |= {"sweeps": found.sweeps, "objective": found.objective[-1]}
    assert found.objective[-1] > 250


@pytest.mark.parametrize("dense", [False, True], ids=["by index", "as matrices"])
def test_the_published_algorithm(benchmark, dense):
    benchmark.group = "weight matching"
    arch, a, b = pair("gelu")
    run = lambda: port(arch, a, b, torch.Generator().manual_seed(1), dense=dense)  # noqa: E731
    reached, sweeps = benchmark.pedantic(run, rounds=3)
    benchmark.extra_info |= {"sweeps": sweeps, "objective": reached}
    ours = align(arch, a, b, generator=torch.Generator().manual_seed(1))
    assert ours.objective[-1] > 0.99 * reached  # two local maxima of one problem


def test_align_with_scales(benchmark):
    benchmark.group = "with positive scales, width 512"
    arch, a, b = pair("relu", 512)
    run = lambda: align(arch, a, b, generator=torch.Generator().manual_seed(1))  # noqa: E731
    benchmark.extra_info["sweeps"] = benchmark.pedantic(run, rounds=2).sweeps


def test_the_assignments_alone(benchmark):
    benchmark.group = "weight matching"
    _, a, b = pair("gelu")
    cost = -(a["W2"] @ b["W2"].T).numpy()
    benchmark.pedantic(linear_sum_assignment, args=(cost,), rounds=5)
