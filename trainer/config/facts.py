"""What must be known of a data set before it is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes, by which a job is checked and planned; `trainer.data` finds those of the user's own folders by looking.

    extra_unlabelled: images that come without labels, beside the training images whose labels are withheld.
    mirrors: whether an image's mirror image is of the same class; not so for digits.
    """

    train_images: int
    test_images: int
    classes: int
    image_px: int
    extra_unlabelled: int = 0
    mirrors: bool = True


DATASETS: dict[str, DatasetFacts] = {
    # scikit-learn's 1,797 digits; the first 1,437 (in a fixed shuffle) train, the rest test.
    "digits": DatasetFacts(train_images=1_437, test_images=360, classes=10, image_px=8, mirrors=False),
    "cifar10": DatasetFacts(train_images=50_000, test_images=10_000, classes=10, image_px=32),
    "cifar100": DatasetFacts(train_images=50_000, test_images=10_000, classes=100, image_px=32),
    "svhn": DatasetFacts(train_images=73_257, test_images=26_032, classes=10, image_px=32, mirrors=False),
    "stl10": DatasetFacts(train_images=5_000, test_images=8_000, classes=10, image_px=96, extra_unlabelled=100_000),
}
"""By the names that job.yaml has for them."""
