"""Training as pure steps on named parameters: descent, momentum, Adam, gradient flow.  Member axes come first.

A loss takes parameters (and a batch) to one number per member; members do not interact, so the gradient of the sum is
the gradient of each, and many networks train as one.  Nothing here knows about symmetry.
"""

from symlib.dynamics.descent import descend as descend
from symlib.dynamics.flows import flow as flow
from symlib.dynamics.layers import LayeredLoss as LayeredLoss
from symlib.dynamics.losses import Params as Params
from symlib.dynamics.losses import Pinned as Pinned
from symlib.dynamics.losses import accuracy as accuracy
from symlib.dynamics.losses import cross_entropy as cross_entropy
from symlib.dynamics.losses import gradient as gradient
from symlib.dynamics.losses import member as member
from symlib.dynamics.losses import mse as mse
from symlib.dynamics.losses import over_members as over_members
from symlib.dynamics.runs import Divergence as Divergence
from symlib.dynamics.runs import Run as Run
from symlib.dynamics.runs import device as device
from symlib.dynamics.runs import logarithmic as logarithmic
from symlib.dynamics.steps import adam_step as adam_step
from symlib.dynamics.steps import cosine as cosine
from symlib.dynamics.steps import gradient_step as gradient_step
from symlib.dynamics.steps import momentum_step as momentum_step
