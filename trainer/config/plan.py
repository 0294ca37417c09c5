"""What a run comes to once the size of its data set is known."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The figures of a run that follow from its configuration and its data set."""

    classes: int
    image_px: int
    label_count: int
    """How many training images keep their label."""
    unlabelled_count: int
    """Size of the pool that serves without labels: all other images, or every image when each has its label."""
    total_steps: int
    """Optimiser steps; epochs count the same for both methods, so that the two can be compared."""
