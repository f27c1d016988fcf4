"""Barriers and shapes of curves: closed forms, both signs, and the convexity that another chord would report."""

import math

import pytest
import torch

from symlib.measures.barrier import barriers, shape

T = torch.linspace(0, 1, 11, dtype=torch.float64)


def test_a_parabola_has_its_height_by_both_definitions():
    found = barriers({"test loss": 2 + 3 * T + 4 * 0.7 * T * (1 - T)})
    assert list(found) == ["test loss, midpoint", "test loss, whole path"]
    assert all(v == pytest.approx(0.7) for v in found.values())


def test_the_midpoint_can_miss_the_barrier():
    # L = sin(2 pi t) is 0 at the midpoint and at both ends; its maximum over 25 points is 1 at t = 1/4
    t = torch.linspace(0, 1, 25, dtype=torch.float64)
    found = barriers({"loss": (2 * math.pi * t).sin()})
    assert found["loss, midpoint"] == pytest.approx(0, abs=1e-12)
    assert found["loss, whole path"] == pytest.approx(1)


def test_a_valley_is_a_negative_midpoint_and_no_barrier_of_the_path():
    found = barriers({"loss": 1 - 4 * 0.3 * T * (1 - T)})
    assert found["loss, midpoint"] == pytest.approx(-0.3)
    assert found["loss, whole path"] == 0


@pytest.mark.parametrize("name", ["accuracy", "test accuracy"])
def test_a_drop_of_accuracy_is_a_positive_barrier(name):
    curve = 0.9 - 4 * 0.5 * T * (1 - T)
    found, loss = barriers({name: curve}), barriers({"loss": curve})
    assert found[f"{name}, midpoint"] == pytest.approx(0.5) == found[f"{name}, whole path"]
    assert loss["loss, midpoint"] == pytest.approx(-0.5)


def test_members_keep_their_axes_and_whole_numbers_are_taken():
    heights = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 0.5, 3.0]])
    found = barriers({"loss": heights[..., None] * (4 * T * (1 - T)).float(), "count": torch.tensor([1, 3, 1])})
    assert found["loss, midpoint"].shape == (2, 3) and found["loss, midpoint"].dtype == torch.float64
    assert torch.allclose(found["loss, midpoint"], heights.double(), atol=1e-6)
    assert torch.allclose(found["loss, whole path"], heights.double().clamp_min(0), atol=1e-6)
    assert found["count, midpoint"] == 2


def test_a_convex_fall_is_monotone_and_convex():
    found = shape((1 - T) ** 2)
    assert found.monotone and found.rise == pytest.approx(-0.01)
    assert found.local_convexity == found.global_convexity == 1


def test_a_line_is_convex_in_spite_of_rounding():
    found = shape(torch.stack([3.7 - 1.3 * T, 1e8 * (0.1 + 0.7 * T), T * 0]))
    assert found.local_convexity.tolist() == found.global_convexity.tolist() == [1, 1, 1]
    assert found.monotone.tolist() == [True, False, True]


def test_a_concave_fall_is_monotone_and_nowhere_convex():
    found = shape(1 - T**2)
    assert found.monotone and found.local_convexity == found.global_convexity == 0


def test_a_plateau_then_a_fall_by_hand():
    # differences 0, 0.5, -1, -1; second differences 0.5, -1.5, 0; the chord is 2, 1.625, 1.25, 0.875, 0.5
    found = shape(torch.tensor([2.0, 2.0, 2.5, 1.5, 0.5]))
    assert found.rise == 0.5 and not found.monotone
    assert found.local_convexity == pytest.approx(2 / 3)
    assert found.global_convexity == 0


def test_the_chord_runs_to_the_last_point_not_to_the_second():
    """The published code (cptq/asymmetric-networks) put L_1, the second point, where its text has the last."""
    curve = torch.exp(-5 * T)  # convex: below its chord everywhere
    inner, t = curve[1:-1], T[1:-1]
    published = (inner <= (1 - t) * curve[0] + t * curve[1]).double().mean()
    assert shape(curve).global_convexity == 1
    assert published == 1  # a fast fall hides it
    concave = 1 - T**4
    wrong = (concave[1:-1] <= (1 - t) * concave[0] + t * concave[1]).double().mean()
    assert shape(concave).global_convexity == 0
    assert wrong > 0.8  # it called this fall convex


BAD = {
    "even": ({"loss": torch.zeros(10)}, "loss should be at an odd number of points, got 10"),
    "short": ({"loss": torch.zeros(2)}, r"loss should have shape \(..., T\) with T >= 3, got \(2,\)"),
    "a number": ({"loss": torch.zeros(())}, r"T >= 3, got \(\)"),
    "NaN": ({"loss": torch.tensor([0.0, math.nan, 0.0])}, "loss holds 1 NaN or inf"),
    "inf at one member": ({"a": torch.tensor([[0.0, 1, 2], [0, math.inf, 0]])}, r"first at index \(1, 1\)"),
}


@pytest.mark.parametrize(("curves", "message"), BAD.values(), ids=BAD)
def test_curves_that_have_no_barrier_are_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        barriers(curves)


@pytest.mark.parametrize("curve", [torch.zeros(2), torch.tensor([0.0, math.nan, 1.0])])
def test_curves_without_a_shape_are_refused(curve):
    with pytest.raises(ValueError, match="shape"):
        shape(curve)
