"""Moves, alignment and paths: what is planted is known and recovered; the rest are laws, brute force and closed forms.

Planted permutations, a monotone objective and one update for one hidden layer are properties that git-re-basin prints
or nnperm tests; the networks that no permutation connects are those of Ainsworth et al., arXiv 2209.04836, section 4.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from symlib import groups
from symlib.activations import monomial
from symlib.architectures import CATALOGUE, Arch, conv_block, mlp, multihead_attention
from symlib.asymmetric import w_asymmetric
from symlib.measures.barrier import barriers
from symlib.models import MLP, ConvNet, ResNet
from symlib.orbits import Move, align, ascent, carry, interpolate, path
from symlib.orbits.align import movable
from symlib.orbits.scores import best_move, best_scale, total
from symlib.symmetry import inner


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_move(n: int, families, g: torch.Generator) -> Move:
    """A random element of the product of some families."""
    scale = torch.ones(n, dtype=torch.float64)
    for family in set(families) - {groups.permutation}:
        scale = scale * family(n).sample(g).g.diagonal()
    return Move(torch.randperm(n, generator=g), scale)


def planted(arch: Arch, theta, g: torch.Generator, **options):
    moves = {s: random_move(arch.size(s), f, g) for s, f in movable(arch, **options).items()}
    return moves, carry(arch, theta, moves)


def gap(left, right) -> float:
    """The largest difference of two networks."""
    return max(float((left[k] - right[k]).abs().max()) for k in left)


def assert_recovered(arch: Arch, theta, *, seed: int = 1, atol: float = 1e-9, **options) -> None:
    g = generator(seed)
    moves, b = planted(arch, theta, g)
    found = align(arch, theta, b, generator=g, **options)
    assert gap(found.theta, theta) <= atol
    for space, move in moves.items():
        both = found.moves[space] @ move
        assert both.order.tolist() == list(range(len(both.order)))
        assert (both.scale - 1).abs().max() <= atol


MODELS = {
    "mlp": lambda g: MLP([5, 6, 7, 3], "tanh", generator=g),
    "conv": lambda g: ConvNet([2, 6, 8], 3, size=6, generator=g),
    "resnet": lambda g: ResNet([2, 6, 8], 2, 3, size=8, generator=g),
}


def wide_conv(g):
    return ConvNet([3, 12, 16, 16], 4, size=6, generator=g)


def wide_resnet(g):
    return ResNet([3, 12, 16], 2, 4, size=6, generator=g)


# --- moves -----------------------------------------------------------------------------------------------------------

FAMILIES = [
    (groups.permutation,),
    (groups.permutation, groups.sign_flip),
    (groups.permutation, groups.sign_flip, groups.rescaling),
]


@pytest.mark.parametrize("families", FAMILIES, ids=len)
def test_moves_compose_and_invert_as_their_matrices_do(families, gen):
    g, h = (random_move(6, families, gen) for _ in range(2))
    z = torch.randn(6, 4, generator=gen, dtype=torch.float64)
    assert torch.allclose(g.act(z, 0), g.element.g @ z)
    assert torch.allclose(g.act(z, 0, dual=True), g.element.inv.T @ z)
    assert torch.allclose(g.act(z.T, 1), z.T @ g.element.g.T)
    assert torch.allclose((g @ h).element.g, (g.element @ h.element).g)
    assert torch.allclose(g.inverse().element.g, g.element.inv)
    units = torch.tensor([4, 1])
    assert torch.equal(g.act(z, 0, units=units), g.act(z, 0)[units])


def derived():
    """Every axis action of a monomial group, in the catalogue and in the modules."""
    every = {**CATALOGUE, **{k: make(generator()).arch for k, make in MODELS.items()}}
    return [
        pytest.param(arch, s, f, id=f"{k}: {f(1).name} {s}")
        for k, arch in every.items()
        for s, kind in arch.activations.items()
        if " " not in s
        for f in monomial(kind)
    ]


@pytest.mark.parametrize(("arch", "space", "family"), derived())
def test_carrying_is_the_claimed_action_of_the_dense_element(arch, space, family, gen):
    theta, move = arch.init(gen, members=3), random_move(arch.size(space), {family}, gen)
    assert gap(carry(arch, theta, {space: move}), arch.claim(space, family).act(move.element, theta)) < 1e-14


def test_carrying_composes_and_keeps_members_dtype_and_argument(gen):
    arch = mlp((4, 5, 6, 2), "linear")
    theta = arch.init(gen, torch.float32, members=2)
    kept = {k: v.clone() for k, v in theta.items()}
    (first, _), (second, _) = (planted(arch, theta, gen) for _ in range(2))
    once = carry(arch, carry(arch, theta, first), second)
    assert once["W1"].shape == (2, 5, 4) and once["W1"].dtype == torch.float32
    assert gap(once, carry(arch, theta, {s: second[s] @ first[s] for s in first})) < 1e-5
    assert gap(carry(arch, once, {s: (second[s] @ first[s]).inverse() for s in first}), theta) < 1e-5
    assert gap(theta, kept) == 0


ONES = torch.ones(3, dtype=torch.float64)
BAD_MOVES = {
    "twice the same": ([0, 1, 1], ONES, r"permutation of 0\.\.2"),
    "out of range": ([1, 2, 3], ONES, r"permutation of 0\.\.2"),
    "not whole": ([0.0, 1.0, 2.0], ONES, r"permutation of 0\.\.2"),
    "a matrix": ([[0, 1, 2]], ONES, "permutation"),
    "zero": ([2, 0, 1], torch.tensor([1.0, 0.0, 1.0]).double(), r"no scale should be 0, got 0 at \[1\]"),
    "NaN": ([2, 0, 1], ONES * math.nan, "scale holds 3 NaN or inf"),
    "inf": ([2, 0, 1], ONES / 0, "scale holds 3 NaN or inf"),
    "float32": ([2, 0, 1], ONES.float(), "should be torch.float64"),
    "short": ([2, 0, 1], ONES[:2], r"shape \(3,\), got torch.float64 of shape \(2,\)"),
}


@pytest.mark.parametrize(("order", "scale", "message"), BAD_MOVES.values(), ids=BAD_MOVES)
def test_what_is_no_move_is_refused(order, scale, message):
    with pytest.raises(ValueError, match=message):
        Move(torch.tensor(order), scale)


@pytest.mark.parametrize(
    ("moves", "message"),
    [({"h9": 3}, "unknown space .* 'h9'; known are"), ({"h1": 3}, "space 'h1' of .* has size 5, got 3")],
)
def test_moves_that_do_not_fit_are_refused(moves, message, gen):
    arch = mlp((4, 5, 2), "relu")
    with pytest.raises(ValueError, match=message):
        carry(arch, arch.init(gen), {s: Move(torch.arange(n), torch.ones(n).double()) for s, n in moves.items()})


# --- what is planted is recovered ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gelu", "tanh", "relu", "linear", "sigmoid"])
@pytest.mark.parametrize("width", [4, 8, 16, 64])
def test_planted_elements_are_recovered(kind, width, gen):
    arch = mlp((6, width, width, width, 3), kind)
    assert_recovered(arch, arch.init(gen), atol=1e-6)


@pytest.mark.parametrize("kind", ["gelu", "tanh"])
def test_planted_elements_are_recovered_at_width_512_from_one_start(kind, gen):
    arch = mlp((64, 512, 512, 10), kind)
    assert_recovered(arch, arch.init(gen))


def batch_resnet(g):
    return ResNet([3, 12, 16], 1, 4, size=6, norm="batch", generator=g)


def batch_mlp(g):
    return MLP([6, 12, 12, 3], "tanh", norm="batch", generator=g)


@pytest.mark.parametrize("make", [wide_conv, wide_resnet, batch_resnet, batch_mlp])
def test_planted_permutations_of_channels_are_recovered(make, gen):
    model = make(gen)
    assert_recovered(model.arch, model.arch.init(gen), restarts=3)


def test_one_order_serves_a_whole_residual_stream(gen):
    model = wide_resnet(gen)
    shared = [k for k, labels in model.arch.axes.items() if "c1" in labels]
    assert len(shared) > 6  # stem and two blocks write to it, each with a norm
    assert {"c1", "c2", "h1", "h2", "h3", "h4"} == movable(model.arch).keys()


@pytest.mark.parametrize("told_by", ["b1", "W1", "W2"])
def test_units_that_one_parameter_alone_tells_apart(told_by, gen):
    # rebasin (PyPI) does not recover what only biases show, as a product of vectors was a scalar there
    arch = mlp((4, 12, 3), "gelu")
    theta = arch.init(gen)
    flat = {
        "W1": theta["W1"][:1].expand(12, 4),
        "b1": torch.ones(12, 1).double(),
        "W2": theta["W2"][:, :1].expand(3, 12),
    }
    alike = {**theta, **{k: v.clone() for k, v in flat.items()}, told_by: theta[told_by]}
    assert_recovered(arch, alike)
    blind = replace(arch, state=frozenset({told_by}))  # the control: what does not count tells nothing
    with pytest.raises(AssertionError):
        assert_recovered(blind, alike)


@pytest.mark.parametrize("told_by", ["s1", "t1"])
def test_units_that_norm_parameters_alone_tell_apart(told_by, gen):
    arch = mlp((4, 12, 3), "gelu", norm=True)
    theta = {k: torch.ones_like(v) for k, v in arch.init(gen).items()}
    assert_recovered(arch, {**theta, told_by: torch.randn(12, 1, generator=gen, dtype=torch.float64)})


def test_channels_that_norm_parameters_alone_tell_apart(gen):
    arch = ConvNet([2, 12], 3, size=4, generator=gen).arch
    theta = {k: torch.ones_like(v) for k, v in arch.init(gen).items()}
    assert_recovered(arch, theta | {"layers.0.norm.bias": torch.randn(12, generator=gen, dtype=torch.float64)})


@pytest.mark.parametrize("kind", ["gelu", "tanh"])
def test_planted_orders_are_recovered_under_noise(kind, gen):
    # 10 % multiplicative noise, as in the property tests of nnperm
    arch = mlp((16, 32, 32, 4), kind)
    a = arch.init(gen)
    moves, b = planted(arch, a, gen)
    noisy = {k: v * (1 + 0.1 * torch.randn(v.shape, generator=gen, dtype=v.dtype)) for k, v in b.items()}
    found = align(arch, a, noisy, generator=gen, restarts=3)
    assert all(torch.equal((found.moves[s] @ m).order, torch.arange(32)) for s, m in moves.items())
    assert (
        0.05
        < math.sqrt(sum(float((found.theta[k] - a[k]).square().sum() / v.square().sum()) for k, v in a.items()))
        < 0.3
    )


def recurrent(h: int, activation: str) -> Arch:
    """Two steps of one recurrence, z <- s(U z + W x): one space on both axes of U."""
    shapes = {"W": (h, 3), "U": (h, h), "V": (2, h)}
    axes = {"W": ("h", "x"), "U": ("h", "h*"), "V": ("y", "h*")}

    def forward(theta, x, sigma):
        z = sigma["h"](theta["W"] @ x)
        return theta["V"] @ sigma["h"](theta["U"] @ z + theta["W"] @ x)

    return Arch("recurrence", shapes, axes, forward, {"h": activation}, (3, None))


@pytest.mark.parametrize("kind", ["gelu", "tanh", "relu"])
def test_a_space_on_both_axes_of_a_tensor(kind, gen):
    arch = recurrent(8, kind)
    a, b = arch.init(gen), arch.init(gen)
    assert_recovered(arch, a, restarts=10, atol=1e-6)
    assert_rises(arch, a, align(arch, a, b, generator=gen), b)


# --- the objective ---------------------------------------------------------------------------------------------------


def objective(arch: Arch, a, b, moved) -> float:
    learned = {k: s for k, s in arch.shapes.items() if k not in arch.state}
    return float(inner(a, moved, learned) - inner(moved, moved, learned) / 2 + inner(b, b, learned) / 2)


def assert_rises(arch: Arch, a, found, b) -> None:
    steps = list(itertools.pairwise(found.objective))
    slack = 1e-12 * abs(found.objective[-1])
    assert len(steps) == found.sweeps
    assert all(y >= x - slack for x, y in steps)
    assert found.objective[-1] == pytest.approx(objective(arch, a, b, found.theta), rel=1e-10)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_first_sweep_goes_outward(kind, monkeypatch):
    """One start finds what is planted at small widths; without that sweep it often does not."""
    arch = mlp((6, 8, 8, 8, 3), kind)

    def recovered():
        found = []
        for seed in range(6):
            theta = arch.init(generator(seed))
            _, b = planted(arch, theta, generator(seed + 50))
            found.append(gap(align(arch, theta, b, generator=generator(seed)).theta, theta) <= 1e-6)
        return sum(found)

    assert recovered() == 6
    monkeypatch.setattr(ascent, "outward", lambda pair, start, products, scaled: dict(start))
    assert recovered() < 6


def test_a_first_sweep_that_loses_is_not_taken(monkeypatch, gen):
    arch = mlp((5, 6, 6, 2), "gelu")
    theta = arch.init(gen)
    worse = {s: Move(torch.arange(6).roll(1), torch.ones(6, dtype=torch.float64)) for s in ("h1", "h2")}
    monkeypatch.setattr(ascent, "outward", lambda *rest: worse)
    found = align(arch, theta, theta, generator=gen)
    assert found.sweeps == 1 and gap(found.theta, theta) == 0 and found.objective[0] == found.objective[-1]


@pytest.mark.parametrize("kind", ["gelu", "tanh", "relu", "linear"])
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_objective_never_falls_and_is_what_it_says(kind, restarts, gen):
    arch = mlp((6, 10, 12, 10, 3), kind)
    a, b = arch.init(gen), arch.init(gen)
    found = align(arch, a, b, generator=gen, restarts=restarts)
    assert_rises(arch, a, found, b)
    if restarts == 1:
        assert found.objective[0] == pytest.approx(objective(arch, a, b, b))
    assert found.objective[-1] > objective(arch, a, b, b)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_modules_too(make, gen):
    arch = make(gen).arch
    a, b = arch.init(gen), arch.init(gen)
    assert_rises(arch, a, align(arch, a, b, generator=gen), b)


def test_the_elements_carry_b_to_the_result(gen):
    arch = mlp((4, 5, 6, 3), "relu")
    a, b = arch.init(gen), arch.init(gen)
    found, theta = align(arch, a, b, generator=gen), b
    for space, element in found.elements.items():
        theta = arch.claim(space, groups.permutation).act(element, theta)
    assert gap(theta, found.theta) < 1e-12


@pytest.mark.parametrize("kind", ["gelu", "tanh", "relu", "linear"])
def test_one_hidden_layer_takes_one_update_to_the_global_optimum(kind, gen):
    arch = mlp((3, 5, 2), kind)
    a, b = arch.init(gen), arch.init(gen)
    found = align(arch, a, b, generator=gen)
    assert found.sweeps == 2 and found.objective[2] == pytest.approx(found.objective[1], rel=1e-9)
    logs = torch.linspace(-4, 4, 4001, dtype=torch.float64) if groups.rescaling in monomial(kind) else torch.zeros(1)
    signs = (1, -1) if groups.sign_flip in monomial(kind) else (1,)
    c = torch.cat([s * logs.double().exp() for s in signs])[:, None, None]
    ua, ub = (torch.cat([t["W1"], t["b1"]], dim=1) for t in (a, b))
    pair = -(ua[:, None] - c[..., None] * ub).square().sum(-1) - (
        a["W2"].T[:, None] - b["W2"].T / c[..., None]
    ).square().sum(-1)
    best = (pair / 2).amax(dim=0)  # of unit i of a with unit j of b, over the scales of a fine grid
    optimum = max(float(sum(best[i, j] for i, j in enumerate(p))) for p in itertools.permutations(range(5)))
    moved = found.theta
    reached = -sum(float((a[k] - moved[k]).square().sum()) for k in ("W1", "b1", "W2")) / 2
    assert optimum - 1e-9 <= reached <= optimum + 1e-4


def test_scales_can_be_left_out(gen):
    arch = mlp((4, 6, 6, 3), "relu")
    a, b = arch.init(gen), arch.init(gen)
    plain, full = (align(arch, a, b, generator=generator(), scales=scales) for scales in (False, True))
    assert all((m.scale == 1).all() for m in plain.moves.values())
    assert plain.objective[-1] < full.objective[-1]


def test_more_starts_are_never_worse(gen):
    arch = mlp((4, 8, 8, 8, 3), "gelu")
    for _ in range(5):
        a, b = arch.init(gen), arch.init(gen)
        one, more = (align(arch, a, b, generator=generator(), restarts=n) for n in (1, 6))
        assert more.objective[-1] >= one.objective[-1]


def test_the_same_generator_gives_the_same_result(gen):
    arch = mlp((4, 8, 8, 3), "tanh")
    a, b = arch.init(gen), arch.init(gen)
    first, second = (align(arch, a, b, generator=generator(3), restarts=3) for _ in range(2))
    assert gap(first.theta, second.theta) == 0 and first.objective == second.objective


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_stopping_is_relative(size, gen):
    # git-re-basin stops at an absolute 1e-12, which means nothing for small weights or in float32
    arch = mlp((5, 9, 9, 2), "gelu", bias=False)
    a, b = arch.init(gen), arch.init(gen)
    small = [{k: size * v for k, v in t.items()} for t in (a, b)]
    first, second = align(arch, a, b, generator=generator()), align(arch, *small, generator=generator())
    assert all(torch.equal(first.moves[s].order, second.moves[s].order) for s in first.moves)


def test_float32_is_aligned_in_float64_and_keeps_its_dtype(gen):
    arch = mlp((5, 20, 20, 2), "gelu")
    a = arch.init(gen, torch.float32)
    _, b = planted(arch, a, gen)
    found = align(arch, a, b, generator=gen)
    assert found.theta["W1"].dtype == torch.float32 and gap(found.theta, a) == 0


def test_state_is_carried_but_does_not_count(gen):
    arch = replace(mlp((4, 8, 3), "gelu"), state=frozenset({"b1"}))
    a = arch.init(gen)
    _, b = planted(arch, a, gen)
    other = {**a, "b1": torch.rand(8, 1, generator=gen, dtype=torch.float64)}  # would mislead if it counted
    found = align(arch, other, b, generator=gen)
    assert gap(found.theta, a) == 0
    assert found.objective[-1] == pytest.approx(sum(float(a[k].square().sum()) for k in a if k != "b1"))


def test_what_names_two_axes_stays(gen):
    arch = multihead_attention(5, 4, 2, 2)
    a = arch.init(gen)
    moves, b = planted(arch, a, gen)
    assert set(moves) == {"m"}
    assert gap(align(arch, a, b, generator=gen).theta, a) == 0


def test_with_no_symmetry_left_nothing_moves(gen):
    base = mlp((6, 5, 5, 6), "relu")
    arch = w_asymmetric(base, {"W1": 2, "W2": 2, "W3": 2}, kappa=1.0, generator=gen).arch
    a, b = arch.init(gen), arch.init(gen)
    found = align(arch, a, b, generator=gen)
    assert found.moves == {} and gap(found.theta, b) == 0


# --- outputs of the hidden units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [mlp((6, 9, 9, 3), k) for k in ("gelu", "tanh", "relu", "linear")], ids=repr)
def test_outputs_of_units_recover_what_is_planted(arch, gen):
    a = arch.init(gen)
    _, b = planted(arch, a, gen)
    x = torch.randn(6, 200, generator=gen, dtype=torch.float64)
    found = align(arch, a, b, generator=gen, method="activations", inputs=x)
    assert gap(found.theta, a) < 1e-6 and found.sweeps == 1
    assert found.objective[1] > found.objective[0]


def test_the_axis_of_the_units_is_found_where_sizes_agree(gen):
    arch = conv_block((2, 8, 3), 3, "tanh", size=12)  # 8 samples of 8 channels
    a = arch.init(gen)
    _, b = planted(arch, a, gen)
    x = torch.randn(8, 2, 12, 12, generator=gen, dtype=torch.float64)
    assert gap(align(arch, a, b, generator=gen, method="activations", inputs=x).theta, a) < 1e-9


def test_units_are_matched_by_what_they_compute_at_the_inputs(gen):
    # two units swap their roles where x_2 = 0: only the outputs see it
    arch = mlp((2, 2, 1), "gelu", bias=False)
    a = {"W1": torch.tensor([[1.0, 0.0], [-1.0, 9.0]]), "W2": torch.tensor([[1.0, 1.0]])}
    b = {"W1": torch.tensor([[-1.0, 0.0], [1.0, 9.0]]), "W2": torch.tensor([[1.0, 1.0]])}
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    by = {
        m: align(arch, a, b, generator=gen, method=m, inputs=x if m == "activations" else None)
        for m in ("weights", "activations")
    }
    assert by["weights"].moves["h1"].order.tolist() == [0, 1]
    assert by["activations"].moves["h1"].order.tolist() == [1, 0]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_module_does_not_show_its_units(make, gen):
    arch = make(gen).arch
    theta, x = arch.init(gen), torch.randn([4 if n is None else n for n in arch.inputs], generator=gen)
    with pytest.raises(ValueError, match=r"does not take the activations of .* from `sigma`"):
        align(arch, theta, theta, generator=gen, method="activations", inputs=x)


# --- the axis table is never taken on trust --------------------------------------------------------------------------


def relabelled(arch: Arch, key: str, labels) -> Arch:
    return replace(arch, axes={**arch.axes, key: labels})


TABLE = mlp((4, 6, 6, 3), "relu")
WRONG = {
    "bias forgotten": (relabelled(TABLE, "b1", (None, None)), "worst is b1, .* axis 0 were 'h1', not None"),
    "wrong dual": (relabelled(TABLE, "W2", ("h2", "h1")), r"worst is W2, .* axis 1 were 'h1\*', not 'h1'"),
    "spaces confused": (relabelled(TABLE, "b2", ("h1", None)), "worst is b2, .* axis 0 were 'h2', not 'h1'"),
    "output permuted": (
        relabelled(mlp((4, 6, 6), "gelu"), "b2", ("h1", None)),
        "worst is b2, .* 0 were None, not 'h1'",
    ),
    "residual stream": (
        relabelled(wide_resnet(generator()).arch, "layers.1.second.norm.bias", (None,)),
        "worst is layers.1.second.norm.bias, .* axis 0 were 'c1', not None",
    ),
}


@pytest.mark.parametrize(("arch", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_axis_table_is_refused_with_the_worst_parameter(arch, message, gen):
    # git-re-basin took a wrong table of ResNet50 silently (issues 3 and 10)
    theta = arch.init(gen)
    with pytest.raises(ValueError, match=message):
        align(arch, theta, arch.init(gen), generator=gen)


def test_a_forward_pass_that_its_table_does_not_describe_is_refused(gen):
    arch = mlp((4, 6, 3), "gelu")
    ramp = torch.linspace(1, 2, 6, dtype=torch.float64)[:, None]
    odd = replace(arch, forward=lambda theta, x, sigma: theta["W2"] @ (ramp * sigma["h1"](theta["W1"] @ x)))
    with pytest.raises(ValueError, match="does not fit its forward pass: moving h1 changed the output by"):
        align(odd, arch.init(gen), arch.init(gen), generator=gen)


# --- bad input -------------------------------------------------------------------------------------------------------

RELU = mlp((3, 4, 2), "relu")
THETA = RELU.init(generator())
X = torch.zeros(3, 5, dtype=torch.float64)
BAD = {
    "other width": ((THETA, mlp((3, 5, 2), "relu").init(generator())), {}, r"theta_b .* W1 should have shape \(4, 3\)"),
    "other architecture": ((THETA, mlp((3, 4, 4, 2), "relu").init(generator())), {}, "theta_b .* wanted parameters"),
    "the other one": ((mlp((3, 5, 2), "relu").init(generator()), THETA), {}, "theta_a .* should have shape"),
    "members": ((THETA, RELU.init(generator(), members=2)), {}, "theta_b .* wanted one network, got member axes"),
    "NaN": ((THETA, {**THETA, "b1": THETA["b1"] * math.nan}), {}, "theta_b .* b1 holds 4 NaN or inf"),
    "no generator": ((THETA, THETA), {"generator": None}, "align: randomness should come from a torch.Generator"),
    "method": (
        (THETA, THETA),
        {"method": "weight"},
        "unknown method of align 'weight'; known are weights, activations",
    ),
    "no inputs": ((THETA, THETA), {"method": "activations"}, "inputs belong to .* got method 'activations' without"),
    "inputs": ((THETA, THETA), {"inputs": X}, "inputs belong to .* got method 'weights' with them"),
    "wrong inputs": ((THETA, THETA), {"method": "activations", "inputs": X[:2]}, r"should have shape \(3, 'n'\)"),
    "restarts": ((THETA, THETA), {"restarts": 0}, "restarts should be a whole number of at least 1, got 0"),
    "sweeps": ((THETA, THETA), {"max_sweeps": 0.5}, "max_sweeps should be a whole number of at least 1, got 0.5"),
}


@pytest.mark.parametrize(("pair", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(pair, options, message, gen):
    with pytest.raises(ValueError, match=message):
        align(RELU, *pair, **{"generator": gen, **options})


# --- scores ----------------------------------------------------------------------------------------------------------


def test_the_best_scale_is_that_of_a_fine_grid(gen):
    a, b, c, d = (torch.randn(40, 3, generator=gen, dtype=torch.float64) for _ in range(4))
    q, u, r, v = a @ b.T, c @ d.T, b.square().sum(1), d.square().sum(1)
    score, scale = best_scale(q, u, r, v)
    grid = torch.linspace(-6.9, 6.9, 4001, dtype=torch.float64).exp()
    value = lambda t: t * q + u / t - t * t * r / 2 - v / (2 * t * t)  # noqa: E731
    best = torch.stack([value(t) for t in grid]).amax(dim=0)
    assert torch.allclose(value(scale), score, rtol=1e-9)  # attained
    assert (score > best - 1e-3 * (1 + best.abs())).double().mean() > 0.995  # two maxima of nearly one height are rare
    assert (score <= best + 1e-3 * (1 + best.abs())).all()


@pytest.mark.parametrize("zero", ["q r", "u v", "q r u v"])
def test_a_dead_unit_keeps_a_finite_scale(zero):
    parts = {
        k: torch.ones(2, 2, dtype=torch.float64) if k in "qu" else torch.ones(2, dtype=torch.float64) for k in "qurv"
    }
    parts |= {k: torch.zeros_like(parts[k]) for k in zero.split()}
    _, scale = best_scale(*parts.values())
    assert torch.allclose(scale, torch.ones(2, 2, dtype=torch.float64))


def test_the_assignment_is_the_best_of_all(gen):
    q, u = (torch.randn(5, 5, generator=gen, dtype=torch.float64) for _ in range(2))
    r = v = torch.zeros(5, dtype=torch.float64)
    every = [Move(torch.tensor(p), torch.ones(5).double()) for p in itertools.permutations(range(5))]
    for families in FAMILIES[:2]:
        signed = [(q + u).abs(), torch.zeros(5, 5)] if len(families) > 1 else [q, u]
        best = max(total(*signed, r, v, m) for m in every)
        assert total(q, u, r, v, best_move(q, u, r, v, families)) == pytest.approx(best)


# --- two networks that no permutation connects -----------------------------------------------------------------------

NET_A = {"W1": [[-1, 0], [0, -1]], "b1": [1, 0], "W2": [[-1, 0], [0, 1]], "b2": [1, 0], "W3": [[-1, -1]], "b3": [0]}
NET_B = {"W1": [[1, 0], [0, 1]], "b1": [0, 1], "W2": [[1, 0], [0, -1]], "b2": [0, 1], "W3": [[-1, -1]], "b3": [0]}
COUNTER = mlp((2, 2, 2, 1), "relu")


def column(net):
    """The weights of Ainsworth et al., arXiv 2209.04836, section 4 (src/sgd_is_special.py), samples as columns."""
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in net.items()}
    return {k: v[:, None] if k.startswith("b") else v for k, v in tensors.items()}


def dyadic() -> torch.Tensor:
    """Points of [-1, 1]^2, off axes and diagonals, at which these networks are computed without rounding.

    Half a turn of each quadrant maps the grid to itself, so that fractions of area are exact.
    """
    lines = [(torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n - 1 for n in (32, 64)]
    return torch.cartesian_prod(*lines).T


def accuracy(theta, x) -> float:
    label = (x[0] <= 0) & (x[1] >= 0)
    return float(((COUNTER(theta, x)[0] >= 0) == label).double().mean())


def test_two_networks_equal_on_a_square_and_different_outside():
    a, b, x = column(NET_A), column(NET_B), dyadic()
    assert torch.equal(COUNTER(a, x), COUNTER(b, x))
    assert torch.equal(COUNTER(a, x)[0], -torch.relu(x[0]) - torch.relu(-x[1]))
    outside = torch.tensor([[2.0, 3.0], [-0.5, 0.5]], dtype=torch.float64)
    assert COUNTER(a, outside).tolist() == [[-1.5, -1.0]] and COUNTER(b, outside).tolist() == [[-2.5, -3.0]]


@pytest.mark.parametrize("orders", list(itertools.product([[0, 1], [1, 0]], repeat=2)), ids=str)
def test_every_permutation_of_them_meets_at_accuracy_three_quarters(orders):
    a, b, x = column(NET_A), column(NET_B), dyadic()
    moved = carry(COUNTER, b, {f"h{i}": Move(torch.tensor(p), torch.ones(2).double()) for i, p in enumerate(orders, 1)})
    assert accuracy(a, x) == accuracy(moved, x) == 1
    assert accuracy(interpolate(a, moved, 0.5), x) == 0.75


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_alignment_cannot_connect_them(method, gen):
    a, b, x = column(NET_A), column(NET_B), dyadic()
    inputs = x if method == "activations" else None
    found = align(COUNTER, a, b, generator=gen, scales=False, method=method, inputs=inputs, restarts=4)
    along = path(lambda theta: {"accuracy": accuracy(theta, x)}, a, found.theta, points=5)
    assert barriers(along)["accuracy, midpoint"] == 0.25


# --- paths -----------------------------------------------------------------------------------------------------------


def test_the_line_begins_at_a_and_ends_at_b(gen):
    a, b = (TABLE.init(gen, members=2) for _ in range(2))
    assert gap(interpolate(a, b, 0), a) == gap(interpolate(a, b, 1), b) == 0
    t = torch.tensor([0.0, 0.25, 1.0])
    many = interpolate(a, b, t)
    assert many["W1"].shape == (3, 2, 6, 4) and many["W1"].dtype == torch.float64
    for i, one in enumerate(t.tolist()):
        assert gap({k: v[i] for k, v in many.items()}, interpolate(a, b, one)) < 1e-15


def test_values_are_named_and_keep_their_members(gen):
    a, b = (TABLE.init(gen, members=2) for _ in range(2))
    x = torch.randn(4, 7, generator=gen, dtype=torch.float64)

    def evaluate(theta):
        return {"size": TABLE(theta, x).square().mean(dim=(-2, -1)), "first": theta["b3"][..., 0, 0]}

    along = path(evaluate, a, b, points=5)
    assert along["size"].shape == along["first"].shape == (2, 5)
    line = torch.linspace(0, 1, 5, dtype=torch.float64)
    assert torch.allclose(along["first"], (1 - line) * a["b3"][:, 0] + line * b["b3"][:, 0])
    assert torch.equal(along["size"][:, 0], evaluate(a)["size"]) and torch.equal(
        along["size"][:, -1], evaluate(b)["size"]
    )


def test_statistics_are_reset_at_every_point_the_ends_too(gen):
    a, b = TABLE.init(gen), TABLE.init(gen)
    seen = path(lambda t: {"b1": t["b1"].sum()}, a, b, points=3, reset=lambda t: {**t, "b1": 0 * t["b1"] + 2})
    assert seen["b1"].tolist() == [12, 12, 12]


def test_a_network_meets_no_barrier_on_the_way_to_itself_or_along_its_orbit_of_order(gen):
    a, x = TABLE.init(gen), torch.randn(4, 30, generator=gen, dtype=torch.float64)
    _, b = planted(TABLE, a, gen)
    loss = lambda t: {"loss": TABLE(t, x).square().mean()}  # noqa: E731
    assert barriers(path(loss, a, a))["loss, whole path"].abs() < 1e-12
    aligned = align(TABLE, a, b, generator=gen, restarts=5).theta
    assert barriers(path(loss, a, aligned))["loss, whole path"].abs() < 1e-6
    assert barriers(path(loss, a, b))["loss, midpoint"].abs() > 1e-3  # the control: the same function, far away


@pytest.mark.parametrize(
    ("other", "t", "message"),
    [
        ({**THETA, "W1": X}, 0.5, r"same names and shapes, got W1 \(4, 3\) and \(3, 5\)"),
        ({k: v for k, v in THETA.items() if k != "b2"}, 0.5, r"got b2 \(2, 1\) and None"),
        (THETA, "half", "interpolate: t should be one real number"),
        (THETA, torch.zeros(2, 2), r"of shape \(T,\), got \(2, 2\)"),
    ],
)
def test_a_line_needs_two_ends_of_one_kind(other, t, message):
    with pytest.raises(ValueError, match=message):
        interpolate(THETA, other, t)


@pytest.mark.parametrize("points", [1, 0, 2.5])
def test_a_path_needs_two_points(points):
    with pytest.raises(ValueError, match="path: "):
        path(lambda t: {}, THETA, THETA, points=points)
