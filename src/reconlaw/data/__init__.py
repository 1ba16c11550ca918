"""Training sets to reconstruct. The attacker's side of the package imports nothing from here."""

from .bundled import digits, faces, photos
from .cifar import cifar10
from .dataset import Dataset
from .synthetic import sphere

__all__ = ["Dataset", "cifar10", "digits", "faces", "photos", "sphere"]
