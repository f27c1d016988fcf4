"""Measures at the size of a real training set: 60,000 features of width 512 in float32, and 10 or 100 classes.

Goal on one thread: all of neural collapse, NC1 to NC4, below 1 s for 10 classes.  Beside it the product Z^T Z alone in
float64, which every method with a d x d scatter needs, and the per-sample loop of the public scripts on one sample in
thirty.  On a busy machine add --benchmark-timer=time.process_time.
"""

import pytest
import torch

from symlib.measures.collapse import collapse
from symlib.measures.rank import effective_rank
from symlib.measures.similarity import linear_cka, mutual_knn

N, D = 60_000, 512


@pytest.fixture(scope="module")
def features():
    gen = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 100
    return torch.randn(N, D, generator=gen) + torch.randn(100, D, generator=gen)[labels], labels


@pytest.mark.parametrize("classes", [10, 100])
def test_collapse(benchmark, features, classes):
    benchmark.group = "scatter of 60,000 x 512"
    x, y = features[0], features[1] % classes
    weight = torch.randn(classes, D, generator=torch.Generator().manual_seed(1))
    found = benchmark.pedantic(collapse, args=(x, y, weight), rounds=3, warmup_rounds=1)
    assert 0 < float(found.nc1) < torch.inf


def test_collapse_of_an_ensemble(benchmark, features):
    benchmark.group = "scatter of 60,000 x 512"
    x, y = features[0].view(60, 1000, D), features[1][:1000] % 10
    weight = torch.randn(10, D, generator=torch.Generator().manual_seed(1))
    assert benchmark.pedantic(collapse, args=(x, y, weight), rounds=3, warmup_rounds=1).nc1.shape == (60,)


def test_the_product_alone(benchmark, features):
    benchmark.group = "scatter of 60,000 x 512"
    benchmark.pedantic(lambda z: z.double().mT @ z.double(), args=(features[0],), rounds=3, warmup_rounds=1)


def test_the_loop_over_one_sample_in_thirty(benchmark, features):
    benchmark.group = "scatter of 2,000 x 512"
    x, y = features[0][:2000].double(), features[1][:2000] % 10
    means = torch.stack([x[y == c].mean(dim=0) for c in range(10)])

    def loop():
        within = torch.zeros(D, D, dtype=torch.float64)
        for i in range(len(x)):
            r = x[i] - means[y[i]]
            within += torch.outer(r, r)
        return within

    benchmark.pedantic(loop, rounds=3)


@pytest.mark.parametrize("measure", [effective_rank, linear_cka, mutual_knn], ids=lambda m: m.__name__)
def test_the_others(benchmark, features, measure):
    benchmark.group = "5,000 x 512"
    args = (features[0][:5000],) if measure is effective_rank else (features[0][:5000], features[0][5000:10_000])
    benchmark.pedantic(measure, args=args, rounds=3, warmup_rounds=1)
