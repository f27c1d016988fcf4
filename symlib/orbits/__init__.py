"""Moving along the orbits of a symmetry: one network carried toward another, and the paths between the two."""

from symlib.orbits.align import Alignment as Alignment
from symlib.orbits.align import align as align
from symlib.orbits.moves import Move as Move
from symlib.orbits.moves import carry as carry
from symlib.orbits.paths import interpolate as interpolate
from symlib.orbits.paths import path as path
