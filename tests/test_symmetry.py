"""The readings of a symmetry: generator, orbit dimension, symmetric states; and which activation commutes with what."""

import itertools

import pytest
import sympy
import torch

from symlib import checks, groups
from symlib.architectures import ACTIVATIONS, CATALOGUE, mlp
from symlib.groups import Elem
from symlib.symmetry import Symmetry, fixed_subspace, flatten, from_axes, inner, orbit_dimension, unflatten
from tests.helpers import catalogue

RELU = mlp((2, 3, 2), "relu")
CONTINUOUS = catalogue(lambda sym: sym.group.dimension > 0)


def algebra_element(sym: Symmetry, gen: torch.Generator) -> torch.Tensor:
    weights = torch.randn(sym.group.dimension, generator=gen, dtype=torch.float64)
    return torch.einsum("a,aij->ij", weights, sym.group.algebra_tensor())


# ---- groups


FAMILIES = (groups.permutation, groups.sign_flip, groups.rescaling)
FAMILIES += (groups.general_linear, groups.orthogonal, groups.translation)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_elements_are_inverted_and_not_the_identity(family, n, gen):
    group = family(n)
    e = group.sample(gen)
    eye = torch.eye(group.n, dtype=torch.float64)
    assert checks.relative_error(e.g @ e.inv, eye) <= 1e-14
    assert torch.equal(e.g, eye) == (group.name == "permutation" and n == 1), "never the identity, if there is another"
    for D in group.discrete:
        assert sympy.eye(group.n) == D @ D.T
    dimension = {"general linear": n * n, "orthogonal": n * (n - 1) // 2, "rescaling": n, "translation": n}
    assert group.dimension == dimension.get(group.name, 0)


def test_groups_of_real_width_are_made_at_once(gen):
    """Elements are listed only where a proof asks for them: 2^512 sign flips are not."""
    for sym in mlp((784, 512, 10), "tanh").symmetries().values():
        assert sym.group.sample(gen).g.shape == (512, 512)


def test_a_product_group_moves_its_factors_one_by_one(gen):
    group = groups.blocks(groups.orthogonal(2), 3)
    g = group.sample(gen).g
    assert group.dimension == 3 and len(group.discrete) == 3
    assert torch.count_nonzero(g) == 12 and checks.relative_error(g @ g.T, torch.eye(6, dtype=torch.float64)) <= 1e-14


def test_composition_of_elements(gen):
    g, h = (groups.general_linear(3).sample(gen) for _ in range(2))
    product, eye = g @ h, torch.eye(3, dtype=torch.float64)
    assert checks.relative_error(product.g @ product.inv, eye) <= 1e-14
    assert checks.relative_error((product @ product.inverse()).g, eye) <= 1e-14


# ---- generators and orbits


@pytest.mark.parametrize(("arch", "sym"), CONTINUOUS)
def test_generator_is_the_derivative_of_the_action(arch, sym, gen):
    theta, A, t = arch.init(gen), algebra_element(sym, gen), 1e-4

    def moved(t: float) -> torch.Tensor:
        g = Elem(torch.linalg.matrix_exp(t * A), torch.linalg.matrix_exp(-t * A))
        return flatten(sym(g, theta), arch.shapes)

    difference = (moved(t) - moved(-t)) / (2 * t)  # error of order t^2, rounding of order 1e-16 / t
    assert checks.relative_error(flatten(sym.generator(A, theta), arch.shapes), difference) <= 1e-7


@pytest.mark.parametrize(("arch", "sym"), CONTINUOUS)
def test_generator_in_sympy_is_that_of_torch(arch, sym, gen):
    whole = {k: torch.randint(-5, 6, s, generator=gen).double() for k, s in arch.shapes.items()}
    exact = {k: sympy.Array(v.int().tolist()) for k, v in whole.items()}
    exact = {k: sympy.ImmutableMatrix(v) if len(v.shape) == 2 else v for k, v in exact.items()}
    for A, B in zip(sym.group.algebra, sym.group.algebra_tensor(), strict=True):
        X, Y = sym.generator(A, exact), sym.generator(B, whole)
        assert [int(e) for k in arch.shapes for e in sympy.flatten(X[k])] == flatten(Y, arch.shapes).tolist()


@pytest.mark.parametrize(("dead", "dimension"), [(0, 3), (1, 2), (3, 0)])
def test_orbit_of_relu_network_is_smaller_at_dead_neurons(dead, dimension, gen):
    theta = RELU.init(gen)
    theta["W1"][:dead], theta["b1"][:dead], theta["W2"][:, :dead] = 0, 0, 0
    assert orbit_dimension(RELU.symmetries()["rescaling h1"], theta) == dimension
    assert orbit_dimension(RELU.symmetries()["permutation h1"], theta) == 0


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_orbit_of_linear_network_is_smaller_at_low_rank(rank, gen):
    """h^2 - (h - rank [W1 b1]) (h - rank W2) for GL(3)."""
    arch = mlp((4, 3, 4), "linear")
    theta = {k: v * 0 if k == "b1" else v for k, v in arch.init(gen).items()}
    theta["W1"][rank:], theta["W2"][:, rank:] = 0, 0
    assert orbit_dimension(arch.symmetries()["general linear h1"], theta) == 9 - (3 - rank) ** 2


def test_orbit_dimension_does_not_depend_on_units(gen):
    theta, sym = RELU.init(gen), RELU.symmetries()["rescaling h1"]
    for unit in (1e-12, 1.0, 1e12):
        assert orbit_dimension(sym, {k: unit * v for k, v in theta.items()}) == 3
    with pytest.raises(ValueError, match="wanted one network, got member axes"):
        orbit_dimension(sym, RELU.init(gen, members=2))


# ---- symmetric states

FIXED = {  # dimension by hand: what is left free when all neurons are equal, or zero
    ("relu, two layers", "permutation h1"): 2 + 1 + 2 + 2,  # one row of W1, one bias, one column of W2, b2
    ("relu, two layers", "rescaling h1"): 2,  # b2
    ("relu, three layers", "permutation h2"): (6 + 3) + 3 + 1 + 1 + 1,  # W1 and b1 stay free
    ("tanh, two layers", "sign flip h1"): 2,
    ("linear, two layers", "general linear h1"): 2,
    ("radial, two layers", "orthogonal h1"): 2,
    ("normalised layer", "scale h"): 4,  # W2
    ("multi-head attention", "permutation m"): 4 + 4 + 2 + 2,
    ("multi-head attention", "general linear^2 m k"): 4 + 4,  # W_V and W_O
    ("convolutional relu block", "permutation c"): 4 + 1 + 4 + 1,
}


@pytest.mark.parametrize(("name", "sym_name"), FIXED)
def test_dimension_of_the_symmetric_states(name, sym_name, gen):
    arch = CATALOGUE[name]
    sym = arch.symmetries()[sym_name]
    fixed = fixed_subspace(sym, arch.shapes)
    assert fixed.dimension == FIXED[name, sym_name]
    state = fixed.project(arch.init(gen))
    moved = sym(sym.group.sample(gen), state)
    assert checks.relative_error(flatten(moved, arch.shapes), flatten(state, arch.shapes)) <= 1e-13
    assert fixed.distance(state) <= 1e-13


def test_projection_is_the_average_over_the_group(gen):
    """The enumeration of S_3 as the slow version."""
    sym, theta = RELU.symmetries()["permutation h1"], RELU.init(gen)
    fixed = fixed_subspace(sym)
    eye = torch.eye(3, dtype=torch.float64)
    orbit = [sym(Elem(eye[list(p)], eye[list(p)].T), theta) for p in itertools.permutations(range(3))]
    mean = torch.stack([flatten(t, RELU.shapes) for t in orbit]).mean(dim=0)
    assert checks.relative_error(flatten(fixed.project(theta), RELU.shapes), mean) <= 1e-14
    assert checks.relative_error(fixed.distance(theta), (flatten(theta, RELU.shapes) - mean).norm()) <= 1e-14
    assert fixed.distance(theta) > 0.1


def test_projection_keeps_members_and_precision(gen):
    fixed = fixed_subspace(RELU.symmetries()["permutation h1"])
    theta = RELU.init(gen, torch.float32, members=4)
    assert fixed.distance(theta).shape == (4,) and fixed.distance(theta).dtype == torch.float32
    one = fixed.project({k: v[2] for k, v in theta.items()})
    assert checks.relative_error(fixed.project(theta)["W1"][2], one["W1"]) <= 1e-6


def test_actions_that_are_not_linear_have_no_fixed_subspace():
    sym = CATALOGUE["softmax classifier"].symmetries()["translation y"]
    with pytest.raises(ValueError, match="'translation y' is not linear"):
        fixed_subspace(sym)
    cubic = Symmetry("cubic", groups.sign_flip(1), lambda e, p: {"u": e.g[0, 0] * p["u"] ** 3}, {"u": (2, 1)})
    with pytest.raises(ValueError, match="'cubic' is not linear"):
        fixed_subspace(cubic)
    with pytest.raises(ValueError, match="wanted shapes"):
        fixed_subspace(sym, {"W": (3, 3)})


def test_flatten_and_inner(gen):
    u, v = RELU.init(gen, members=3), RELU.init(gen, members=3)
    assert all(torch.equal(unflatten(flatten(u, RELU.shapes), RELU.shapes)[k], u[k]) for k in u)
    by_hand = sum((u[k] * v[k]).sum((-1, -2)) for k in u)
    assert checks.relative_error(inner(u, v, RELU.shapes), by_hand) <= 1e-14


# ---- axis tables


@pytest.mark.parametrize(
    ("table", "space", "size", "message"),
    [
        ({"W1": ("h", "x"), "W9": ("y", "h*")}, "h", 3, r"axis table: W9 has labels \('y', 'h\*'\), its shape is None"),
        ({"W1": ("h",)}, "h", 3, r"axis table: W1 has labels \('h',\), its shape is \(3, 2\)"),
        ({"W1": ("h", "x")}, "k", 3, "no axis is labelled 'k'; spaces of this table are h, x"),
        ({"W1": ("h", "x")}, "h", 4, "axis 'h' of W1 has size 3, the group rescaling has size 4"),
        ({"W1": ("h", "x"), "W2": ("h", "y")}, "h", 3, "axis 'h' of W2 has size 2, the group rescaling has size 3"),
    ],
)
def test_axis_tables_that_do_not_fit(table, space, size, message):
    with pytest.raises(ValueError, match=message):
        from_axes(table, space, groups.rescaling(size), shapes={"W1": (3, 2), "W2": (2, 3)})


def test_claims_on_unknown_spaces():
    for space in ("h2", "", "h1 h2"):
        with pytest.raises(ValueError, match="spaces are h1, x, y"):
            RELU.claim(space, groups.rescaling)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("linear, three layers", ["general linear h1", "general linear h2"]),
        ("relu, three layers", ["permutation h1", "rescaling h1", "permutation h2", "rescaling h2"]),
        ("tanh, two layers", ["permutation h1", "sign flip h1"]),
        ("gelu, two layers", ["permutation h1"]),
        ("radial, two layers", ["orthogonal h1"]),
        ("softmax classifier", ["translation y"]),
        ("normalised layer", ["orthogonal h", "scale h"]),
        ("attention head", ["general linear k", "general linear v"]),
        ("multi-head attention", ["permutation m", "general linear^2 m k", "general linear^2 m v"]),
        ("convolutional relu block", ["permutation c", "rescaling c"]),
    ],
)
def test_derived_symmetries(name, known):
    assert list(CATALOGUE[name].symmetries()) == known


# ---- activations

Z = torch.linspace(-20, 20, 4001, dtype=torch.float64)  # past every saturation: on [-4, 4] relu6 looks homogeneous
ELEMENTWISE = [name for name, a in ACTIVATIONS.items() if a.is_elementwise and name != "linear"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_families_listed_are_exactly_those_that_hold(name):
    activation = ACTIVATIONS[name]
    s = activation.fn
    holds = {
        groups.sign_flip: checks.relative_error(s(-Z), -s(Z)) <= 1e-14,
        groups.rescaling: all(checks.relative_error(s(a * Z), a * s(Z)) <= 1e-14 for a in (0.1, 0.5, 3.0)),
    }
    if name == "nonnegative":  # a sign flip commutes with the identity, but leaves the positive numbers
        holds[groups.sign_flip] = False
    listed = {f for f in activation.families if f in holds}
    assert listed == {f for f, yes in holds.items() if yes}
    assert groups.permutation in activation.families


@pytest.mark.parametrize(
    ("name", "odd", "odd_up_to_constant", "slope"),
    [
        ("relu", False, False, 1.0),
        ("sigmoid", False, True, None),
        ("softplus", False, False, 1.0),
        ("gelu", False, False, 1.0),
        ("elu", False, False, None),
        ("sin", True, True, None),
        ("tanhshrink", True, True, None),
    ],
)
def test_reflection_type_of_activations(name, odd, odd_up_to_constant, slope):
    """s(z) - s(-z) = slope z is no linear action.  Source: flavio-martinelli/expand-and-cluster at 231cac9."""
    s = ACTIVATIONS[name].fn
    even, difference = s(Z) + s(-Z), s(Z) - s(-Z)
    assert bool(even.abs().max() <= 1e-13) == odd
    assert bool((even - even[0]).abs().max() <= 1e-13) == odd_up_to_constant
    if slope is not None:
        assert (difference - slope * Z).abs().max() <= 1e-13
    else:
        assert (difference - Z * difference[-1] / Z[-1]).abs().max() > 1e-3
    assert (groups.sign_flip in ACTIVATIONS[name].families) == odd


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.fn is not None])
def test_activation_is_the_same_function_in_sympy_and_torch(name):
    values = [["-3/2", "1/7", "2"], ["-1/3", "5/4", "-9"]]
    exact = sympy.Matrix([[sympy.Rational(v) for v in row] for row in values])
    z = torch.tensor(exact.evalf().tolist(), dtype=torch.float64)
    left = torch.tensor(sympy.Matrix(ACTIVATIONS[name].fn(exact)).evalf(20).tolist(), dtype=torch.float64)
    assert checks.relative_error(left, ACTIVATIONS[name].fn(z)) <= 1e-13


# ---- equal on a domain, not by a symmetry

A = {"W1": [[-1, 0], [0, -1]], "b1": [1, 0], "W2": [[-1, 0], [0, 1]], "b2": [1, 0], "W3": [[-1], [-1]], "b3": [0]}
B = {"W1": [[1, 0], [0, 1]], "b1": [0, 1], "W2": [[1, 0], [0, -1]], "b2": [0, 1], "W3": [[-1], [-1]], "b3": [0]}


def columns(net: dict) -> dict[str, torch.Tensor]:
    """The case is written for x @ W + b; here samples are columns."""
    made = {k: torch.tensor(v, dtype=torch.float64) for k, v in net.items()}
    return {k: v.T if v.ndim == 2 else v[:, None] for k, v in made.items()}


def test_two_relu_networks_equal_on_a_square_only():
    """Both are -relu(x1) - relu(-x2) on [-1, 1]^2.  Source: samuela/git-re-basin at ef40098, sgd_is_special.py."""
    arch = mlp((2, 2, 2, 1), "relu")
    side = torch.arange(-16, 17, dtype=torch.float64) / 16  # sixteenths: every sum is exact
    x = torch.cartesian_prod(side, side).T
    left, right = arch(columns(A), x), arch(columns(B), x)
    assert torch.equal(left, -torch.relu(x[:1]) - torch.relu(-x[1:]))
    assert torch.equal(left, right)
    outside = torch.tensor([[2.0], [-0.5]], dtype=torch.float64)
    assert (arch(columns(A), outside).item(), arch(columns(B), outside).item()) == (-1.5, -2.5)
