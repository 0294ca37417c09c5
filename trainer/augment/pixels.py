"""From stored pixels to a network's input."""

import torch
from torch import Tensor


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in 0..1."""
    return pixels.float().div_(255)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 [N, C, H, W] in 0..1 to zero mean and unit deviation over the training images, by channel."""
    return (images - mean[:, None, None]) / std[:, None, None]


def add_noise(images: Tensor, deviation: float, draws: torch.Generator) -> Tensor:
    """The images with Gaussian noise of this standard deviation."""
    if not deviation:
        return images
    return images + deviation * torch.randn(images.shape, generator=draws, device=images.device)


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Grey images repeated into the channels that the network expects."""
    return images.expand(-1, channels, -1, -1) if images.shape[1] == 1 else images
