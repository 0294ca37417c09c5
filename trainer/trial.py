"""A pass through a network that teaches it nothing: to see whether it works, or what it costs."""

import torch
from torch import Tensor

from trainer.model import INPUT_CHANNELS
from trainer.network import FlatNetwork, Heads
from trainer.precision import Precision, autocast


def try_pass(network: FlatNetwork, heads: Heads, images: Tensor, precision: Precision) -> None:
    """Forward as in a step, and backward where the network learns; all is as before then.

    heads: those of the network, or what stands for them.
    """
    statistics = network.batch_statistics.clone()
    learning = [parameter for parameter in network.model.parameters() if parameter.requires_grad]
    collected = [parameter.grad for parameter in learning]
    device = images.device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            with torch.set_grad_enabled(bool(learning)), autocast(precision, device):
                logits, pulled = heads(images)
            if learning:
                loss = logits.float().square().mean() + pulled.float().square().mean()
                for parameter in learning:
                    parameter.grad = None  # so that nothing is added to it
                torch.autograd.grad(loss, learning)
    finally:
        for parameter, gradient in zip(learning, collected, strict=True):
            parameter.grad = gradient
        network.batch_statistics.copy_(statistics)


def blank_images(network: FlatNetwork, count: int, image_px: int) -> Tensor:
    """Images as a step gives them to the network, in shape and memory layout, with nothing on them."""
    device = network.weights.device
    return network.arranged(torch.zeros(count, INPUT_CHANNELS, image_px, image_px, device=device))
