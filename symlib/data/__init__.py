"""Seeded synthetic tasks, and real data from packages and OpenML.  Samples are columns; randomness is a generator."""

from symlib.data.images import OPENML as OPENML
from symlib.data.images import augment as augment
from symlib.data.images import digits as digits
from symlib.data.images import mnist as mnist
from symlib.data.images import mnist5k as mnist5k
from symlib.data.images import openml as openml
from symlib.data.pretrained import pretrained_heads as pretrained_heads
from symlib.data.splits import Split as Split
from symlib.data.splits import classes as classes
from symlib.data.streams import Batch as Batch
from symlib.data.streams import Stream as Stream
from symlib.data.streams import hypercube as hypercube
from symlib.data.streams import minibatches as minibatches
from symlib.data.synthetic import gaussian_mixture as gaussian_mixture
from symlib.data.synthetic import teacher_student as teacher_student
