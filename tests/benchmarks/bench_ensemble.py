"""A member-step of the engine against the loop over models, torch.func.vmap(grad) and the floor, as one table.

Run with `make bench` (one thread), or with OMP_NUM_THREADS=2 in front of its pytest line.  The goals are printed, not
asserted, as they hold on a quiet machine; that all ways train the same networks is asserted.
"""

import sys

import pytest
import torch

from tests.benchmarks import ensemble_cost

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", ensemble_cost.WIDTHS)
def test_all_ways_train_the_same_networks(width):
    assert ensemble_cost.disagreement(width, 3, CPU) <= 1e-6


@pytest.mark.filterwarnings("ignore")  # of the compiler's own parts
def test_member_steps(benchmark, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    found = benchmark.pedantic(ensemble_cost.measure, args=(CPU,), rounds=1)
    lines = [f"{found['threads']} thread(s)", *ensemble_cost.table(found["cells"]), *found["goals"]]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, ""]))
    benchmark.extra_info.update(found)
