"""Networks with a symmetry removed on purpose.  Each is a map from an architecture to an architecture."""

from symlib.asymmetric.commuting import figlu_equivariances as figlu_equivariances
from symlib.asymmetric.decay import decay_force as decay_force
from symlib.asymmetric.decay import decay_term as decay_term
from symlib.asymmetric.decay import strengths as strengths
from symlib.asymmetric.decay import syre as syre
from symlib.asymmetric.gates import Gated as Gated
from symlib.asymmetric.gates import figlu as figlu
from symlib.asymmetric.gates import sigma_asymmetric as sigma_asymmetric
from symlib.asymmetric.layers import AsymmetricConv2d as AsymmetricConv2d
from symlib.asymmetric.layers import AsymmetricLinear as AsymmetricLinear
from symlib.asymmetric.layers import FiGLU as FiGLU
from symlib.asymmetric.masks import densest_mask as densest_mask
from symlib.asymmetric.masks import w_asymmetric as w_asymmetric
from symlib.asymmetric.pinning import Pinning as Pinning
from symlib.asymmetric.rigidity import automorphisms as automorphisms
from symlib.asymmetric.rigidity import rigid as rigid
