"""Bad input to the symmetry modules is refused with what was wanted, what came, and where."""

import math

import numpy as np
import pytest
import sympy
import torch

from symlib import checks, groups, guards, ops
from symlib.activations import named_activation
from symlib.architectures import (
    CATALOGUE,
    attention,
    conv_block,
    mlp,
    multihead_attention,
    normalised_layer,
    softmax_classifier,
)
from symlib.groups import Elem
from symlib.symmetry import orbit_dimension

RELU = mlp((2, 3, 2), "relu")
SYM = RELU.symmetries()["rescaling h1"]
NOT_WIDTHS = {
    "empty": (),
    "one": (3,),
    "zero": (3, 0, 1),
    "negative": (3, -2, 1),
    "float": (3, 2.0, 1),
    "bool": (3, True, 1),
    "string in it": (3, "2", 1),
    "a string": "321",
    "a number": 3,
    "none": None,
}


# ---- architectures


@pytest.mark.parametrize("name", ["swish", "", "ReLU", None, 3, torch.relu])
def test_unknown_activation(name):
    with pytest.raises(ValueError, match=r"unknown activation .*; known are linear, relu, leaky-relu, tanh"):
        mlp((2, 3, 1), name)


def test_activations_of_attention_do_not_fit_an_mlp():
    for name in ("softmax", "sum"):
        with pytest.raises(ValueError, match="belongs to attention and cannot be used in an mlp"):
            mlp((2, 3, 1), name)
    with pytest.raises(ValueError, match=r"known are linear, .*, elu, radial, rms-norm$"):  # neither is on offer
        mlp((2, 3, 1), "swish")
    with pytest.raises(ValueError, match=r"known are linear, .*, elu$"):
        conv_block((1, 2, 1), 3, "swish")
    with pytest.raises(ValueError, match="conv_block: activation 'radial' is not elementwise"):
        conv_block((1, 2, 1), 3, "radial")


def test_leaky_relu_in_both_spellings():
    assert named_activation("leaky_relu") is named_activation("leaky-relu")


@pytest.mark.parametrize("widths", NOT_WIDTHS.values(), ids=NOT_WIDTHS)
def test_widths_that_are_none(widths):
    with pytest.raises(ValueError, match="mlp: widths should be at least 2 positive whole numbers, got") as error:
        mlp(widths, "relu")
    assert repr(widths) in str(error.value)


@pytest.mark.parametrize(
    "widths", [[2, 3, 1], np.array([2, 3, 1]), (2, np.int64(3), 1)], ids=["list", "numpy", "mixed"]
)
def test_whole_numbers_of_any_kind_are_widths(widths):
    arch = mlp(widths, "relu")
    assert arch.shapes == {"W1": (3, 2), "b1": (3, 1), "W2": (1, 3), "b2": (1, 1)}
    assert all(type(n) is int for shape in arch.shapes.values() for n in shape)
    assert len(arch.symmetries()) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: softmax_classifier(2, 0), r"softmax_classifier: \(d, classes\) should be 2"),
        (lambda: normalised_layer(2, 2.5, 1), r"normalised_layer: \(d, hidden, out\) should be 3"),
        (lambda: attention(2, -1, 1), r"attention: \(d, key, value\) should be 3"),
        (lambda: multihead_attention(2, 2, True, 1), r"multihead_attention: \(d, heads, key, value\) should be 4"),
        (lambda: conv_block((1, 2), 3), "conv_block: channels should be 3"),
        (lambda: conv_block((1, 2, 1, 1), 3), "conv_block: channels should be 3"),
        (lambda: conv_block((1, 2, 1), 0), r"conv_block: \(kernel, size\) should be 2"),
    ],
)
def test_sizes_of_the_other_architectures(make, message):
    with pytest.raises(ValueError, match=f"^{message} positive whole numbers, got"):
        make()


def test_images_too_small_for_two_kernels():
    with pytest.raises(ValueError, match="two kernels of size 3 need images of at least 5, got 4"):
        conv_block((1, 2, 1), 3, size=4)


@pytest.mark.parametrize("members", [0, -1, 2.0, True, "2"])
def test_members(members, gen):
    message = f"relu network 2-3-2: members should be a whole number of at least 1, got {members!r}"
    with pytest.raises(ValueError, match=message):
        RELU.init(gen, members=members)
    assert RELU.init(gen, members=np.int64(2))["W1"].shape == (2, 3, 2)


def test_settings_of_random_parameters(gen):
    for generator in (None, 0):
        with pytest.raises(ValueError, match="relu network 2-3-2: randomness should come from a torch"):
            RELU.init(generator)
    for dtype in (torch.int64, torch.complex128, torch.bool, float, None, "float64"):
        with pytest.raises(ValueError, match="relu network 2-3-2: the dtype should be a floating one, got"):
            RELU.init(gen, dtype)
    for scale in (math.nan, math.inf, "1", None, True):
        with pytest.raises(
            ValueError, match=r"relu network 2-3-2: (the )?scale should be (finite|one real number), got"
        ):
            RELU.init(gen, scale=scale)
    assert RELU.init(gen, torch.bfloat16, scale=0)["W1"].dtype == torch.bfloat16


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
@pytest.mark.parametrize("family", [groups.permutation, groups.sign_flip, groups.general_linear, groups.translation])
def test_sizes_of_groups(family, n):
    with pytest.raises(ValueError, match="a group needs a whole size of at least 1, got"):
        family(n)
    assert family(np.int64(2)).symbol("")


# ---- parameters and inputs


def wrong(theta: dict, **changes) -> dict:
    return {k: v for k, v in {**theta, **changes}.items() if v is not None}


def with_entry(value: torch.Tensor, number: float) -> torch.Tensor:
    out = value.clone()
    out[1, 0] = number
    return out


WRONG = {
    "missing": (lambda p: wrong(p, b1=None), r"wanted parameters W1, b1, W2, b2; missing \['b1'\], not known none"),
    "extra": (lambda p: wrong(p, W3=p["W1"]), r"missing none, not known \['W3'\]"),
    "renamed": (lambda p: wrong(p, W1=None, V1=p["W1"]), r"missing \['W1'\], not known \['V1'\]"),
    "transposed": (lambda p: wrong(p, W1=p["W1"].T), r"W1 should have shape \(3, 2\), got \(2, 3\)"),
    "flat bias": (lambda p: wrong(p, b1=p["b1"][:, 0]), r"b1 should have shape \(3, 1\), got \(3,\)"),
    "scalar": (lambda p: wrong(p, b1=p["b1"].sum()), r"b1 should have shape \(3, 1\), got \(\)"),
    "mixed dtypes": (lambda p: wrong(p, W2=p["W2"].float()), "parameters should share one dtype, got .*float32"),
    "whole numbers": (lambda p: wrong(p, W1=p["W1"].int()), "W1 should hold floating-point numbers, got torch.int32"),
    "NaN": (
        lambda p: wrong(p, W1=with_entry(p["W1"], math.nan)),
        r"W1 holds 1 NaN or inf, the first at index \(1, 0\)",
    ),
    "inf": (
        lambda p: wrong(p, b1=with_entry(p["b1"], math.inf)),
        r"b1 holds 1 NaN or inf, the first at index \(1, 0\)",
    ),
    "-inf": (lambda p: wrong(p, b1=with_entry(p["b1"], -math.inf)), "b1 holds 1 NaN or inf"),
    "members of one": (lambda p: wrong(p, W1=p["W1"][None]), "parameters should share their leading member axes, got"),
    "numpy": (lambda p: wrong(p, W1=p["W1"].numpy()), "W1 should be a torch tensor or a sympy matrix, got ndarray"),
    "lists": (lambda p: wrong(p, W1=p["W1"].tolist()), "W1 should be a torch tensor or a sympy matrix, got list"),
    "another network": (lambda p: CATALOGUE["attention head"].init(torch.Generator()), "wanted parameters W1, b1"),
    "another width": (lambda p: mlp((2, 4, 2), "relu").init(torch.Generator()), r"W1 should have shape \(3, 2\), got"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_parameters(kind, gen):
    change, message = WRONG[kind]
    theta, x = change(RELU.init(gen)), torch.ones(2, 5, dtype=torch.float64)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        SYM(SYM.group.identity(), theta)
    assert "symmetry 'rescaling h1'" in str(error.value)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        orbit_dimension(SYM, theta)
    assert "orbit_dimension of 'rescaling h1'" in str(error.value)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        RELU.check(theta, x)
    assert "relu network 2-3-2" in str(error.value)


INPUTS = {
    "rows": (torch.ones(5, 2).double(), r"the input should have shape \(2, 'n'\), got \(5, 2\)"),
    "one vector": (torch.ones(2).double(), r"the input should have shape \(2, 'n'\), got \(2,\)"),
    "precision": (torch.ones(2, 5), "the input has dtype torch.float32, the parameters torch.float64"),
    "whole numbers": (torch.ones(2, 5, dtype=torch.int64), "the input has dtype torch.int64"),
    "NaN": (torch.full((2, 1), math.nan).double(), r"the input holds 2 NaN or inf, the first at index \(0, 0\)"),
    "inf": (torch.tensor([[0.0, 1.0], [0.0, math.inf]]).double(), r"the input holds 1 NaN or inf.* index \(1, 1\)"),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_wrong_inputs(kind, gen):
    x, message = INPUTS[kind]
    with pytest.raises(ValueError, match=f"relu network 2-3-2: {message}"):
        RELU.check(RELU.init(gen), x)


@pytest.mark.parametrize("name", CATALOGUE)
def test_right_parameters_and_inputs_pass(name, gen):
    arch = CATALOGUE[name]
    arch.check(arch.init(gen), checks.inputs(arch, gen, torch.float64, 10.0))
    arch.check(arch.init(gen, torch.float32, members=2), checks.inputs(arch, gen, torch.float32, 10.0))


# ---- group elements

EYE = torch.eye(3, dtype=torch.float64)
ELEMENTS = {
    "too large": (Elem(torch.eye(4).double(), torch.eye(4).double()), r"g should be 3 x 3 for rescaling, got \(4, 4\)"),
    "not square": (Elem(EYE[:2], EYE), r"g should be 3 x 3 for rescaling, got \(2, 3\)"),
    "a vector": (Elem(torch.ones(3).double(), EYE), r"g should be 3 x 3 for rescaling, got \(3,\)"),
    "wrong inverse": (Elem(EYE, EYE[:2, :2]), r"inv should be 3 x 3 for rescaling, got \(2, 2\)"),
    "precision": (Elem(EYE.float(), EYE.float()), "g has dtype torch.float32, the parameters have torch.float64"),
    "NaN": (Elem(EYE * math.nan, EYE), "g holds 9 NaN or inf"),
    "a matrix": (EYE, r"wanted an Elem\(g, inv\) of rescaling, got Tensor"),
    "in sympy": (Elem(sympy.eye(2), sympy.eye(2)), r"g should be 3 x 3 for rescaling, got \(2, 2\)"),
}


@pytest.mark.parametrize("kind", ELEMENTS)
def test_wrong_group_elements(kind, gen):
    element, message = ELEMENTS[kind]
    with pytest.raises((ValueError, TypeError), match=f"symmetry 'rescaling h1': {message}"):
        SYM(element, RELU.init(gen))


def test_a_symmetry_of_another_architecture_does_not_act(gen):
    theta = mlp((2, 3, 3, 2), "relu").init(gen)
    with pytest.raises(ValueError, match=r"missing none, not known \['W3', 'b3'\]"):
        SYM(SYM.group.sample(gen), theta)
    with pytest.raises(ValueError, match=r"laws of 'rescaling h1': W1 should have shape \(3, 2\), got \(4, 2\)"):
        checks.law_errors(mlp((2, 4, 2), "relu"), SYM, generator=gen)


def test_singular_matrices_are_no_elements():
    with pytest.raises(ValueError, match="the matrix is singular"):
        checks.element(torch.ones(2, 2, dtype=torch.float64))
    e = checks.element(2 * EYE)
    assert torch.equal(e.inv, EYE / 2)


# ---- checks, guards and ops


def test_draws_are_positive(gen):
    with pytest.raises(ValueError, match="draws should be at least 1, got 0"):
        checks.invariance_error(RELU, SYM, generator=gen, draws=0)


@pytest.mark.parametrize(
    ("steps", "errors", "message"),
    [
        ([0.1], [1.0], "wanted two or more steps and as many errors, got shapes \\(1,\\) and \\(1,\\)"),
        ([0.1, 0.05], [1.0], "got shapes \\(2,\\) and \\(1,\\)"),
        ([0.1, 0.0], [1.0, 0.5], "should be positive"),
        ([0.1, 0.05], [1.0, 0.0], "should be positive"),
        ([0.1, 0.05], [1.0, math.nan], "should be positive"),
    ],
)
def test_orders_of_nothing(steps, errors, message):
    with pytest.raises(ValueError, match=message):
        checks.order(steps, errors)


def test_order_of_a_known_power_and_its_mutants():
    steps = torch.tensor([0.4, 0.2, 0.1], dtype=torch.float64)
    assert checks.order(steps, 3 * steps**2).tolist() == pytest.approx([2, 2], abs=1e-12)
    checks.assert_order(steps, 3 * steps**2, expected=2, tol=1e-6)
    checks.assert_order(steps, torch.stack([steps**2, 5 * steps**2], dim=1), expected=2, tol=1e-6)
    for errors in (steps, steps**2 + 0.1, torch.stack([steps**2, steps], dim=1)):
        with pytest.raises(AssertionError, match="do not tend to 2"):
            checks.assert_order(steps, errors, expected=2, tol=0.1)
    with pytest.raises(AssertionError, match="do not tend to 1"):  # within the tolerance, but going away from 1
        checks.assert_order(steps, [0.4, 0.2, 0.1 * 0.95], expected=1, tol=0.1)


def test_guards():
    guards.check_known("a", ["a", "b"], "letter")
    with pytest.raises(ValueError, match="unknown letter 'c'; known are a, b"):
        guards.check_known("c", ["a", "b"], "letter")
    for value in (0, -1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match="steps should be a whole number of at least 1, got"):
            guards.check_positive(value, "steps")
    guards.check_positive(np.int64(3), "steps")
    for value in (None, "1", True, 1j, torch.ones(2), torch.tensor(True)):
        with pytest.raises(ValueError, match="rate should be one real number, got"):
            guards.real(value, "rate")
    assert [guards.real(v, "rate") for v in (2, np.float32(0.5), torch.ones(1))] == [2.0, 0.5, 1.0]


@pytest.mark.parametrize("name", ["act_axis", "add", "conv", "elementwise", "radial", "softmax", "take", "transpose"])
def test_ops_name_themselves_and_what_came(name):
    extra = {"act_axis": 2, "add": 1, "conv": 2, "elementwise": 2, "radial": 2, "take": 1}.get(name, 0)
    with pytest.raises(TypeError, match=f"ops.{name} takes a torch tensor or a sympy matrix or array, got list"):
        getattr(ops, name)([[1.0]], *[None] * extra)
