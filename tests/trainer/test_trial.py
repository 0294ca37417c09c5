"""A trial pass leaves everything as it was."""

import torch

from trainer.config import Model
from trainer.model import build_model
from trainer.network import FlatNetwork
from trainer.trial import blank_images, try_pass


def test_it_teaches_nothing() -> None:
    network = FlatNetwork(build_model(Model(), 10, 8, seed=0), torch.device("cpu"), channels_last=True)
    collected = torch.ones_like(network.weights)
    network.collect_gradients_in(collected)
    weights, statistics = network.weights.clone(), network.batch_statistics.clone()
    try_pass(network, network.heads, blank_images(network, 4, 8), "fp32")
    assert torch.equal(collected, torch.ones_like(collected))
    assert torch.equal(network.weights, weights)
    assert torch.equal(network.batch_statistics, statistics)
    torch.autograd.backward(network.heads(blank_images(network, 4, 8))[0].sum())
    assert not torch.equal(collected, torch.ones_like(collected)), "it collects there still"
