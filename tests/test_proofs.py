"""Proofs prove what is true, refute what is false with a witness that can be recomputed, and leave the rest open."""

import re
from dataclasses import replace

import pytest
import sympy
import torch
from sympy import Rational

from symlib import checks, groups, proofs
from symlib.activations import named_activation
from symlib.architectures import CATALOGUE, Arch, attention, conv_block, mlp, multihead_attention
from symlib.groups import Elem
from symlib.ops import Step
from symlib.symmetry import Symmetry, from_axes
from tests.helpers import catalogue

RELU, TANH, GELU = (mlp((2, 3, 2), name) for name in ("relu", "tanh", "gelu"))
METHODS = {
    "permutation": "exhaustive",
    "sign flip": "exhaustive",
    "rescaling": "symbolic",
    "orthogonal": "symbolic",
    "translation": "symbolic",
    "general linear": "all sizes",
    "general linear^2": "symbolic",  # several heads are stacks of matrices, which have no matrix-symbol form
}


def nudged(arch: Arch, size: Rational) -> Arch:
    """The architecture with `size` times one entry of one parameter added to every output."""
    key = next(iter(arch.shapes))

    def forward(theta, x, sigma):
        return arch.forward(theta, x, sigma).applyfunc(lambda e: e + size * sympy.flatten(theta[key])[0])

    return replace(arch, forward=forward)


@pytest.mark.parametrize(("arch", "sym"), catalogue())
def test_catalogue_is_proved(arch, sym):
    proof = proofs.invariance(arch, sym).require("proved")
    assert proof.method == METHODS[sym.group.name]
    assert proof.residual == 0 and proof.witness is None
    any_activation = proof.scope.endswith(", every elementwise activation")
    elementwise = named_activation(arch.activations.get(sym.space, "linear")).is_elementwise
    assert any_activation == (sym.group.name == "permutation" and elementwise)
    assert proof.scope.startswith("every width") == (proof.method == "all sizes")
    assert "connected component" not in proof.scope
    assert proof.assumptions == (sym.group.cover,)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_formula_that_is_proved_is_the_code_that_trains(name, gen):
    """The same forward at one rational point: exact in sympy, float64 in torch."""
    arch = CATALOGUE[name]
    theta, x = arch.init(gen), checks.inputs(arch, gen, torch.float64, 1.0, samples=2)
    exact = lambda v: sympy.Array([sympy.Float(e, 20) for e in v.flatten().tolist()], tuple(v.shape))  # noqa: E731
    matrix = lambda v: sympy.ImmutableMatrix(exact(v)) if v.ndim == 2 else exact(v)  # noqa: E731
    formula = arch({k: matrix(v) for k, v in theta.items()}, matrix(x))
    value = torch.tensor([float(e) for e in sympy.flatten(formula)], dtype=torch.float64)
    assert checks.relative_error(value, arch(theta, x).flatten()) <= 1e-13


# ---- other sizes and other methods


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        pytest.param(mlp((2, 3, 1), "radial"), "orthogonal h1", id="O(3)"),
        pytest.param(multihead_attention(1, 1, 3, 1), "general linear^1 m k", id="GL(3) in a head"),
        pytest.param(conv_block((1, 3, 1), 1, "linear", size=1), "general linear c", id="GL(3) on channels"),
    ],
)
def test_large_groups_are_proved_on_the_connected_component_only(arch, name):
    proof = proofs.invariance(arch, arch.symmetries()[name]).require("proved")
    assert proof.method == "infinitesimal"
    assert proof.scope.endswith("connected component of the identity only")


@pytest.mark.parametrize("n", [5, 6])
def test_finite_groups_beyond_four_are_proved_by_generators(n):
    arch = mlp((1, n, 1), "tanh")
    for sym in arch.symmetries().values():
        assert "that generate it" in proofs.invariance(arch, sym).require("proved").assumptions[0]


def test_the_factors_of_a_product_group_are_covered_one_by_one():
    """Pairs of swaps would generate only the pairs of permutations of equal sign."""
    elements = groups.blocks(groups.permutation(5), 2).symbol("")
    assert len(elements) == 8
    assert any(e.g.det() == -1 and e.g[:5, :5] == sympy.eye(5) for e in elements)


def test_matrix_symbols_do_not_depend_on_the_sizes_of_the_object():
    arch = attention(512, 64, 64)
    assert proofs._all_sizes(arch, arch.symmetries()["general linear k"])


def test_a_symmetry_under_another_name_is_proved_too():
    arch = mlp((1, 2, 1), "linear")
    sym = from_axes(arch.axes, "h1", groups.general_linear(2), shapes=arch.shapes, name="change of basis")
    assert proofs.invariance(arch, sym).require("proved").method == "all sizes"


# ---- false neighbours

FALSE = {
    "GL on relu": (RELU, RELU.claim("h1", groups.general_linear)),
    "GL(2) on relu": (mlp((2, 2, 2), "relu"), mlp((2, 2, 2), "relu").claim("h1", groups.general_linear)),
    "rescaling on gelu": (GELU, GELU.claim("h1", groups.rescaling)),
    "rescaling on tanh": (TANH, TANH.claim("h1", groups.rescaling)),
    "sign flip on relu": (RELU, RELU.claim("h1", groups.sign_flip)),
    "sign flip on gelu": (GELU, GELU.claim("h1", groups.sign_flip)),
    "orthogonal on relu": (RELU, RELU.claim("h1", groups.orthogonal)),
    "orthogonal on tanh": (TANH, TANH.claim("h1", groups.orthogonal)),
    "permutation of the inputs": (RELU, RELU.claim("x", groups.permutation)),
    "permutation of the outputs": (RELU, RELU.claim("y", groups.permutation)),
    "wrong dual": (
        RELU,
        from_axes({**RELU.axes, "W2": ("y", "h1")}, "h1", groups.rescaling(3), shapes=RELU.shapes),
    ),
    "forgot the bias": (
        RELU,
        from_axes({k: a for k, a in RELU.axes.items() if k != "b1"}, "h1", groups.permutation(3), shapes=RELU.shapes),
    ),
    "GL on radial": (mlp((2, 2, 2), "radial"), mlp((2, 2, 2), "radial").claim("h1", groups.general_linear)),
}


def entries(name: str, shape: tuple[int, ...], values: dict[str, float]) -> torch.Tensor:
    index = torch.cartesian_prod(*(torch.arange(1, n + 1) for n in shape)).reshape(-1, len(shape))
    flat = [values[f"{name}_{''.join(map(str, i))}"] for i in index.tolist()]
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def recompute(arch: Arch, sym: Symmetry, witness: str) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Both outputs in torch at the printed point, and the two printed numbers."""
    found = re.fullmatch(r"f\(theta, x\) = (\S+) but f\(g theta, x\) = (\S+) for g = (\[\[.*\]\]) at (.*)", witness)
    assert found
    values = {k: float(Rational(v)) for k, v in (pair.split(" = ") for pair in found[4].split(", "))}
    g = torch.tensor(sympy.Matrix(sympy.sympify(found[3])).evalf().tolist(), dtype=torch.float64)
    theta = {k: entries(k, s, values) for k, s in arch.shapes.items()}
    x = entries("x", tuple(n or 1 for n in arch.inputs), values)
    moved = sym(Elem(g, torch.linalg.inv(g)), theta)
    return arch(theta, x).flatten(), arch(moved, x).flatten(), float(found[1]), float(found[2])


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refuted_by_a_witness_that_torch_confirms(name):
    arch, sym = FALSE[name]
    proof = proofs.invariance(arch, sym).require("refuted")
    assert proof.method == "witness" and proof.witness
    before, after, left, right = recompute(arch, sym, proof.witness)
    assert left != right
    assert any(
        abs(b - left) <= 1e-5 * (1 + abs(left)) and abs(a - right) <= 1e-5 * (1 + abs(right))
        for b, a in zip(before.tolist(), after.tolist(), strict=True)
    )


def test_matrix_symbols_alone_do_not_prove_a_false_claim():
    for name in ("GL on relu", "GL(2) on relu"):
        assert not proofs._all_sizes(*FALSE[name])
    arch = CATALOGUE["linear, two layers"]
    assert proofs._all_sizes(arch, arch.symmetries()["general linear h1"])


def test_the_component_that_the_algebra_cannot_see_can_refute():
    """The sign of det(W1) is invariant under SO(3) but not under O(3): the algebra alone would not notice."""
    arch = mlp((3, 3, 3), "linear", bias=False)
    volume = replace(arch, forward=lambda theta, x, sigma: x * theta["W1"].det())
    proofs.invariance(volume, arch.claim("h1", groups.orthogonal)).require("refuted")


# ---- soundness: a difference too small for a witness is open, never proved

PATHS = {
    "symbolic": (RELU, RELU.claim("h1", groups.rescaling)),
    "exhaustive, uninterpreted": (TANH, TANH.claim("h1", groups.permutation)),
    "exhaustive": (TANH, TANH.claim("h1", groups.sign_flip)),
    "infinitesimal": (mlp((2, 3, 1), "radial"), mlp((2, 3, 1), "radial").claim("h1", groups.orthogonal)),
    "all sizes": (mlp((2, 2, 1), "linear"), mlp((2, 2, 1), "linear").claim("h1", groups.general_linear)),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_tiny_violation_is_never_proved(path):
    arch, sym = PATHS[path]
    proofs.invariance(arch, sym).require("proved")
    proofs.invariance(nudged(arch, Rational(1, 10**25)), sym).require("refuted")
    proof = proofs.invariance(nudged(arch, Rational(1, 10**35)), sym).require("open")
    assert proof.residual != 0 and proof.witness is None


def test_a_tiny_violation_in_matrix_symbols_is_never_proved():
    arch = mlp((2, 2, 1), "linear")

    def forward(theta, x, sigma):
        f = arch.forward(theta, x, sigma)
        return f + Rational(1, 10**35) * theta["W2"] @ theta["W2"].T @ f

    sym = arch.claim("h1", groups.general_linear)
    assert not proofs._all_sizes(replace(arch, forward=forward), sym)
    proofs.invariance(replace(arch, forward=forward), sym).require("open")


def test_a_singular_point_is_no_witness():
    """A network whose output is nowhere a number differs from nothing; it is not proved either."""
    nowhere = replace(RELU, forward=lambda theta, x, sigma: x * sympy.zoo)
    assert proofs.invariance(nowhere, RELU.symmetries()["permutation h1"]).status == "open"


# ---- the value

PROVED = proofs.invariance(RELU, RELU.symmetries()["rescaling h1"])
REFUTED = proofs.invariance(*FALSE["GL on relu"])


def test_a_proof_has_no_truth_value():
    with pytest.raises(TypeError, match="unknown is not false"):
        bool(PROVED)


def test_require_hands_on_or_raises_with_the_reason():
    assert PROVED.require() is PROVED and REFUTED.require("refuted") is REFUTED
    with pytest.raises(AssertionError, match=r"wanted proved, got refuted; f\(theta, x\) = "):
        REFUTED.require()
    with pytest.raises(AssertionError, match="wanted refuted, got proved"):
        PROVED.require("refuted")


def test_the_record_is_plain_and_complete():
    assert PROVED.record() == {
        "kind": "proof",
        "id": "rescaling h1 relu network 2-3-2",
        "statement": "rescaling h1 is a symmetry of the relu network 2-3-2",
        "status": "proved",
        "scope": "relu network 2-3-2, one input",
        "method": "symbolic",
        "assumptions": ["every element: symbols a > 0"],
        "witness": None,
    }
    assert set(REFUTED.record()) == set(PROVED.record())


@pytest.mark.parametrize("proof", [PROVED, REFUTED], ids=["proved", "refuted"])
def test_display_shows_the_outcome_and_carries_the_record(proof):
    data, metadata = proof._repr_mimebundle_()
    assert metadata == {"symlib": proof.record()}
    assert data["text/plain"] == repr(proof) and repr(proof).startswith(f"{proof.status}: {proof.claim}")
    assert f'class="claim-card proof {proof.status}"' in data["text/html"]
    assert 'class="measured"' not in data["text/html"], "a proof is exact: nothing in it may be masked"
    assert proof.scope in data["text/html"] and (proof.witness or "") in data["text/html"]


def test_a_proof_reads_the_same_every_time():
    assert repr(proofs.invariance(*FALSE["GL on relu"])) == repr(REFUTED)


def test_a_symmetry_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"acts on .* has "):
        proofs.invariance(RELU, mlp((2, 4, 2), "relu").symmetries()["rescaling h1"])


# ---- identities and the unit step


def equal(left, right):
    return proofs.equal(left, right, id="identity", claim="left is right", scope="every real z")


def test_equal():
    z = sympy.Symbol("z", real=True)
    equal(sympy.sin(z) ** 2 + sympy.cos(z) ** 2, 1).require("proved")
    equal((z + 1) ** 2, z**2 + 2 * z + 1).require("proved")
    assert re.match(r"\S+ is not \S+ at z = ", equal(sympy.sin(2 * z), 2 * sympy.sin(z)).require("refuted").witness)
    equal(z, z + Rational(1, 10**35)).require("open")
    equal(sympy.nan, 1).require("open")
    equal(z + sympy.zoo, 1).require("open")


def test_step():
    z, w = sympy.symbols("z w", real=True)
    a, b = sympy.symbols("a b", positive=True)
    assert Step(a * z) == Step(z) and Step(2 * a * z / b) == Step(z) and Step(a * b) == 1
    assert Step(-z) != Step(z) and Step(w * z) != Step(z) and Step(-a) == 0
    assert (Step(3), Step(Rational(-1, 2)), Step(0)) == (1, 0, 0)
    assert sympy.diff(Step(z), z) == 0
    relu = z * Step(z)
    assert z * sympy.diff(relu, z) - relu == 0, "Euler's identity"
    assert [relu.subs(z, v) for v in (-2, 0, 2)] == [0, 0, 2]
