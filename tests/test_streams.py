"""Streams of batches: their place can be kept and put back, members have orders of their own, parities are exact."""

import itertools
import math
from itertools import islice

import pytest
import torch

from symlib import data

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


X, Y = torch.arange(24.0).reshape(2, 12), torch.arange(12)
SETS = [[0, 1, 3], [2], [0, 4]]
STREAMS = {
    "minibatches": lambda g: data.minibatches(X, Y, 5, g),
    "minibatches of members": lambda g: data.minibatches(X, Y, 4, g, members=3),
    "hypercube": lambda g: data.hypercube(SETS, 6, 7, g),
    "hypercube of members": lambda g: data.hypercube(SETS, 6, 7, g, members=3),
}


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(p, q) for s, t in zip(a, b, strict=True) for p, q in zip(s, t, strict=True)
    )


# state and restore


@pytest.mark.parametrize("taken", range(8))
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_goes_on_from_where_it_stood(name, taken):
    gen, make = seeded(3), STREAMS[name]
    stream = make(gen)
    list(islice(stream, taken))
    state = stream.state()
    rest = list(islice(stream, 7))
    other = make(seeded(99))
    list(islice(other, 5))  # wherever it stands
    for _ in range(2):  # restoring does not use the state up
        other.restore(state)
        assert other.state()["taken"] == state["taken"]
        assert equal(list(islice(other, 7)), rest)
    other.restore(make(seeded(4)).state())
    assert not equal(list(islice(other, 7)), rest)  # control: another state is another stream


@pytest.mark.parametrize("name", STREAMS)
def test_the_state_before_the_first_batch_is_that_of_the_generator_now(name):
    """Parameters are often drawn from the same generator after the stream was made."""
    gen = seeded(0)
    stream = STREAMS[name](gen)
    torch.randn(5, generator=gen)
    fresh, first = stream.state(), next(stream)
    inside, second = stream.state(), next(stream)
    for state, batch in ((fresh, first), (inside, second)):
        other = STREAMS[name](seeded(1))
        other.restore(state)
        assert equal([next(other)], [batch])


def test_a_state_is_plain_and_does_not_move_the_stream(tmp_path):
    stream, twin = (STREAMS["minibatches"](seeded(0)) for _ in range(2))
    for _ in range(5):
        torch.save(stream.state(), tmp_path / "state")
        assert equal([next(stream)], [next(twin)])
    stream.restore(torch.load(tmp_path / "state", weights_only=True))
    assert equal([next(stream)], [list(islice(STREAMS["minibatches"](seeded(0)), 5))[-1]])


def test_a_stream_needs_a_generator():
    with pytest.raises(ValueError, match=r"stream: randomness should come from a torch\.Generator"):
        data.Stream(lambda g: iter(()), 0)


# minibatches of members


@pytest.mark.parametrize(("size", "batches"), [(4, 3), (5, 2), (12, 1)])
def test_every_member_has_its_own_permutation_in_each_epoch(size, batches):
    stream = data.minibatches(X, Y, size, seeded(1), members=6)
    orders = []
    for _ in range(3):
        epoch = list(islice(stream, batches))
        assert all(x.shape == (6, 2, size) and y.shape == (6, size) for x, y in epoch)
        assert all(torch.equal(x, X[:, y].movedim(0, 1)) for x, y in epoch)  # inputs stay with their labels
        orders.append(torch.cat([y for _, y in epoch], dim=1))
    for order in orders:
        assert all(len(set(row)) == len(row) for row in order.tolist())  # none twice in an epoch
        assert size == 5 or order.sort(dim=1).values.tolist() == [list(range(12))] * 6
    rows = [tuple(row) for order in orders for row in order.tolist()]
    assert len(set(rows)) == len(rows)  # no two members, and no two epochs, have the same order
    shared = data.minibatches(X, Y, size, seeded(1))
    assert next(shared)[1].shape == (size,)  # control: without members there is one order


def test_positions_are_uniform_over_the_samples():
    """Each of 12 samples is first in 1/12 of 6,000 orders: five standard errors."""
    firsts = torch.cat([next(data.minibatches(X, Y, 1, seeded(s), members=600))[1] for s in range(10)])
    assert float((firsts.flatten().bincount(minlength=12) / 6000 - 1 / 12).abs().max()) <= 5 * math.sqrt(
        11 / 144 / 6000
    )


@pytest.mark.parametrize("members", [0, -1, 1.5, True])
def test_members_are_a_positive_whole_number(members):
    for make in (lambda: data.minibatches(X, Y, 4, seeded(0), members=members),
                 lambda: data.hypercube(SETS, 6, 4, seeded(0), members=members)):  # fmt: skip
        with pytest.raises(ValueError, match="members should be a whole number"):
            make()


# the hypercube


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("members", [None, 3])
def test_targets_are_sums_of_parities(members, dtype):
    lead = () if members is None else (members,)
    for x, y in islice(data.hypercube(SETS, 6, 50, seeded(2), members=members, dtype=dtype), 3):
        assert x.shape == (*lead, 6, 50) and y.shape == (*lead, 1, 50) and x.dtype == y.dtype == dtype
        assert x.unique().tolist() == [-1, 1]
        direct = torch.empty_like(y)
        for index in itertools.product(*map(range, y.shape)):
            column = x[(*index[:-2], slice(None), index[-1])].tolist()
            direct[index] = sum(math.prod(column[i] for i in s) for s in SETS)
        assert torch.equal(y, direct)
        assert not torch.equal(y, -direct)


def test_points_are_uniform_and_fresh():
    """2^5 points, 64,000 draws by 4 members: five standard errors of each frequency; members and batches differ."""
    stream = data.hypercube([[0]], 5, 8000, seeded(0), members=4)
    first, second = (x for x, _ in islice(stream, 2))
    codes = ((torch.cat([first, second], dim=2) > 0).long() * (2 ** torch.arange(5)).reshape(5, 1)).sum(dim=1)
    p, n = 1 / 32, codes.numel()
    assert float((codes.flatten().bincount(minlength=32) / n - p).abs().max()) <= 5 * math.sqrt(p * (1 - p) / n)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    for a, b in ((first, second), (first[0], first[1])):
        assert abs(float((a * b).mean())) <= 5 / math.sqrt(a.numel())  # independent


BAD = [
    ({"sets": []}, "the sets should hold"),
    ({"sets": [[]]}, "the sets should hold"),
    ({"sets": [[0, 0]]}, "each once"),
    ({"sets": [[6]]}, r"coordinates in 0\.\.5"),
    ({"sets": [[0], [-1]]}, r"coordinates in 0\.\.5"),
    ({"d": 0}, "hypercube: d should be"),
    ({"size": 2.5}, "hypercube: size should be"),
    ({"generator": None}, r"hypercube: randomness should come from a torch\.Generator"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_hypercubes_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        data.hypercube(**{"sets": SETS, "d": 6, "size": 4, "generator": seeded(0), **bad})
