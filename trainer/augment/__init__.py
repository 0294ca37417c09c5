"""What a network sees of an image: every sample drawn for itself, by tensor operations on the images' own device.

Student and teacher each get a view of their own; the draws of a view come from the generator that is passed in, and
what is drawn for a sample depends on no image. In the order in which an image passes through:

    pixels    uint8 to 0..1; afterwards normalised, with noise, in the network's channels
    geometry  flip, shift, rotation, scale, shear, crop: all in one resampling, or exact where none is needed
    colour    jitter of brightness, contrast, saturation, hue
    strong    two further operations a sample, of shape and of colour
    cutout    a square blanked                              view    augment(), which puts these in order
"""

from trainer.augment.pixels import add_noise, normalize, to_channels, to_unit_range
from trainer.augment.view import augment

__all__ = ["add_noise", "augment", "normalize", "to_channels", "to_unit_range"]
