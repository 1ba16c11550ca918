"""Where the samples live: what an attacker knows of inputs as such, beside θ and the feature map."""

from .box import Box, Free, pixels
from .family import Affine, Decoder
from .inputs import Inputs
from .sphere import Sphere

__all__ = ["Affine", "Box", "Decoder", "Free", "Inputs", "Sphere", "pixels"]
