"""How many conservation laws a flow has, and how many dimensions of functions a network reaches, counted exactly."""

from symlib.counting.count import Disagreement as Disagreement
from symlib.counting.count import LawCount as LawCount
from symlib.counting.dimension import FunctionalDimension as FunctionalDimension
from symlib.counting.dimension import functional_dimension as functional_dimension
from symlib.counting.laws import METHODS as METHODS
from symlib.counting.laws import conservation_laws as conservation_laws
