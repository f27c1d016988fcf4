"""Architectures as axis tables: the forward pass, the spaces it runs through, and the symmetries derived from them."""

from symlib.activations import ACTIVATIONS as ACTIVATIONS
from symlib.architectures.arch import Arch as Arch
from symlib.architectures.blocks import attention as attention
from symlib.architectures.blocks import conv_block as conv_block
from symlib.architectures.blocks import multihead_attention as multihead_attention
from symlib.architectures.catalogue import CATALOGUE as CATALOGUE
from symlib.architectures.dense import factorisation as factorisation
from symlib.architectures.dense import input_convex as input_convex
from symlib.architectures.dense import mlp as mlp
from symlib.architectures.dense import normalised_layer as normalised_layer
from symlib.architectures.dense import residual as residual
from symlib.architectures.dense import softmax_classifier as softmax_classifier
