"""Torch modules as people write them, samples as rows, each with the axis table of its own parameters.

`model.arch` is an `Arch` over `named_parameters()`, so that all which reads an architecture reads a module too.  Its
forward pass is `torch.func.functional_call`, for numbers only: symbolic proofs are for the blocks of the catalogue,
and the activations that a proof puts in place are not used here.
"""

from symlib.models.convolutional import VGG as VGG
from symlib.models.convolutional import VGG16 as VGG16
from symlib.models.convolutional import ConvNet as ConvNet
from symlib.models.dense import MLP as MLP
from symlib.models.labels import labelled as labelled
from symlib.models.parts import Model as Model
from symlib.models.residual import ResNet as ResNet
from symlib.models.statistics import BatchNorm as BatchNorm
from symlib.models.statistics import reset_statistics as reset_statistics
from symlib.models.transformer import VisionTransformer as VisionTransformer
