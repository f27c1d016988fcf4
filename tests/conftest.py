"""What all tests share; the shapes in symlib's signatures are checked while the tests run."""

import pytest
import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  (the hook below names it)
from tests.browser import address, browser, visit  # noqa: F401  (fixtures)

install_import_hook(("symlib.dynamics", "symlib.measures", "symlib.conserved"), "tests.shapes.checked")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The tests run in parallel processes; a second thread in each only makes them wait."""
    torch.set_num_threads(1)


@pytest.fixture
def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)
