"""The learnable parameters that Lim et al., arXiv 2405.20231 print, each met exactly by an architecture of ours.

Their Bayesian networks have five numbers for each weight and bias and one for each scale and shift of a norm (found by
fitting the printed numbers).  Three printed rows are not what they say, and are met as what they are.
"""

import math

import pytest
import torch

from symlib import asymmetric, models
from symlib.architectures import mlp
from symlib.asymmetric import rigid, w_asymmetric

BLOCK, SKIP = (36, 54, 72), (4, 6, 8)  # entries held in each row of the three stages of ResNet20


def resnet(widths, blocks, classes=10):
    with torch.device("meta"):  # nothing but shapes is wanted
        return models.ResNet((3, *widths), blocks, classes, size=8, generator=torch.Generator()).arch


def held(arch, widths, *, times=1, stem=12, head=8, block=BLOCK, skip=SKIP):
    """The number n of entries held in each row, or "all", for the kernels of a ResNet and its linear layer."""
    out = {"stem.conv.weight": stem, **({"head.weight": head * times} if head else {})}
    for k, shape in arch.shapes.items():
        if k.endswith("conv.weight") and not k.startswith("stem"):
            out[k] = times * (skip if "skip" in k else block)[widths.index(shape[0])]
    return out


def lost(arch, fixed):
    return sum(math.prod(arch.shapes[k]) if n == "all" else arch.shapes[k][0] * n for k, n in fixed.items())


def bayesian(arch, count):
    """Five numbers for each of `count` weights and biases, one for each scale and shift of a norm."""
    norms = sum(math.prod(s) for k, s in arch.shapes.items() if "norm" in k or (k[0] in "st" and k[1:].isdigit()))
    return 5 * (count - norms) + norms


NARROW, WIDE, WIDEST = (16, 32, 64), (32, 64, 128), (128, 256, 512)
RESNETS = {
    "ResNet20 1x": (NARROW, 3, 10, {}, 272474, 230026),  # printed: 230,024, two fewer than these settings leave
    "ResNet20 8x": (WIDEST, 3, 10, {"times": 3, "stem": "all"}, 17289866, 16273946),
}
BAYESIAN = {
    "ResNet20 1x": (NARROW, 3, 10, {}, 1356098, 1143858),
    "ResNet20 2x, CIFAR-10": (WIDE, 3, 10, {}, 5410386, None),  # printed beside the next line's
    "ResNet20 2x, CIFAR-100": (WIDE, 3, 100, {"head": 0}, None, 5044756),  # the linear layer is a standard one
    "ResNet110 1x": (NARROW, 18, 10, {}, 8620418, 7371378),
    "ResNet110 2x, CIFAR-100": (WIDE, 18, 100, {"head": 0}, 34512276, 32014996),
}


@pytest.mark.parametrize(
    ("widths", "blocks", "classes", "options", "standard", "learnable"), RESNETS.values(), ids=RESNETS
)
def test_residual_networks(widths, blocks, classes, options, standard, learnable):
    arch = resnet(widths, blocks, classes)
    assert arch.parameters == standard and standard - lost(arch, held(arch, widths, **options)) == learnable


@pytest.mark.parametrize(
    ("widths", "blocks", "classes", "options", "standard", "learnable"), BAYESIAN.values(), ids=BAYESIAN
)
def test_bayesian_residual_networks(widths, blocks, classes, options, standard, learnable):
    arch = resnet(widths, blocks, classes)
    full = bayesian(arch, arch.parameters)
    assert standard in (None, full)
    assert learnable in (None, full - 5 * lost(arch, held(arch, widths, **options)))


def test_the_printed_pair_of_the_wide_bayesian_resnet_is_of_two_networks():
    """5,410,386 has 10 classes, 5,044,756 has 100."""
    arch = resnet(WIDE, 3, 100)
    assert bayesian(arch, arch.parameters) == 5044756 + 5 * lost(arch, held(arch, WIDE, head=0)) != 5410386


@pytest.mark.parametrize(("depth", "standard", "learnable"), [(8, 3324466, 3242146), (16, 5960242, 5796002)])
def test_bayesian_perceptrons(depth, standard, learnable):
    """The pair of MLP-8 is printed the other way round; both rows have 784 inputs, though the data are CIFAR-10."""
    arch = mlp((784, *[256] * depth, 10), "gelu", norm=True)
    fixed = {k: 8 for k in arch.shapes if k.startswith("W")}
    assert bayesian(arch, arch.parameters) == standard == learnable + 5 * lost(arch, fixed)


def test_the_perceptron_of_the_connectivity_experiment(gen):
    base = mlp((784, 512, 512, 512, 10), "gelu", norm=True)
    fixed, kappa = {"W1": 64, "W2": 64, "W3": 64, "W4": 256}, {"W1": 1.0, "W2": 1.0, "W3": 0.5, "W4": 0.25}
    net = w_asymmetric(base, fixed, kappa=kappa, generator=gen)
    assert (base.parameters, net.parameters) == (935434, 834570) and rigid(net)
    assert list(net.arch.symmetries()) == ["translation b1", "translation b2", "translation b3"]


def test_the_graph_network(gen):
    """Mean aggregation has no parameters: what learns is an MLP with BatchNorm, six entries held in each row."""
    base = models.MLP((128, 256, 256, 256, 40), "relu", norm="batch", generator=gen).arch
    net = w_asymmetric(base, {k: 6 for k, s in base.shapes.items() if len(s) == 2}, kappa=0.5, generator=gen)
    assert (base.parameters, net.parameters) == (176424, 171576)


def test_whole_filters_of_the_dataset_of_networks(gen):
    """ResNet8: eight whole filters held for every output channel, eight entries in each row of the linear layer."""
    arch = resnet(NARROW, 1)
    fixed = held(arch, NARROW, stem="all", block=(8, 8, 8), skip=(8, 8, 8))
    filters = [k for k, n in fixed.items() if k.endswith("conv.weight") and n != "all"]
    net = w_asymmetric(arch, fixed, kappa=2.0, generator=gen, filters=filters)
    assert (arch.parameters, net.parameters) == (78042, 60634)
    for k in filters:
        whole = net.free[k].flatten(2)
        assert torch.equal(whole, whole[..., :1].expand_as(whole)) and ((1 - whole[..., 0]).sum(dim=1) == 8).all()
        assert len(whole[..., 0].unique(dim=0)) == len(whole)
    assert rigid(net)


def test_a_held_first_convolution_tells_its_channels_apart_by_its_values(gen):
    """All of the stem is held: its rows have equal masks, and only at kappa = 0 does that leave something open."""
    arch = resnet(NARROW, 1)
    fixed = held(arch, NARROW, stem="all")
    net = w_asymmetric(arch, fixed, kappa=2.0, generator=gen)
    assert rigid(net) and not [s for s in net.arch.symmetries() if "permutation" in s]
    alone = {"stem.conv.weight": "all"}
    assert not rigid(w_asymmetric(arch, alone, kappa=2.0, generator=gen))
    left = w_asymmetric(arch, alone, kappa=0.0, generator=gen).arch.symmetries()
    assert (
        "permutation c1" in left
        and "permutation c1" not in w_asymmetric(arch, alone, kappa=2.0, generator=gen).arch.symmetries()
    )


@pytest.mark.parametrize(("rows", "columns", "zeros"), [(8, 4, 10), (16, 8, 22), (1, 1, 0), (3, 2, 2), (15, 4, 28)])
def test_the_densest_mask(rows, columns, zeros):
    """Zeros of two shapes as in the published code; all rows of 4 but the empty one hold 4 * 2^3 - 4 zeros."""
    mask = asymmetric.densest_mask(rows, columns)
    assert mask.shape == (rows, columns) and int((1 - mask).sum()) == zeros
    assert len(mask.unique(dim=0)) == rows and mask.any(dim=1).all()
    net = w_asymmetric(mlp((columns, rows, 1), "gelu"), {"W1": mask}, kappa=0.0, generator=torch.Generator())
    assert net.parameters == net.base.parameters - zeros and rigid(net)


@pytest.mark.parametrize(("rows", "columns"), [(4, 2), (2, 1), (0, 3), (3, 0), (2.0, 3)])
def test_what_the_densest_mask_refuses(rows, columns):
    with pytest.raises(ValueError, match="densest_mask"):
        asymmetric.densest_mask(rows, columns)
