"""Convolutions over images of one or two pixels a side: the same function as torch's, and sums of shards keep bits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import few_pixels
from trainer.model import Conv3x3

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convolution(layout: torch.memory_format, stride: int = 1, dtype: torch.dtype = torch.float64) -> Conv3x3:
    made = Conv3x3(5, 7, stride).to(dtype)
    made.weight.data = drawn(7, 5, 3, 3, dtype=dtype).to(memory_format=layout)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("px", [1, 2, 3])
def test_it_is_a_convolution_all_the_same(px: int, stride: int, layout: torch.memory_format) -> None:
    ours = convolution(layout, stride)
    images = drawn(4, 5, px, px).to(memory_format=layout)
    assert few_pixels.suits(images) == (px <= 2)
    seen_by_ours, seen_by_torch = images.clone().requires_grad_(), images.clone().requires_grad_()
    weight = ours.weight.detach().clone().requires_grad_()
    mine, expected = ours(seen_by_ours), F.conv2d(seen_by_torch, weight, stride=stride, padding=1)
    torch.testing.assert_close(mine, expected)
    assert mine.is_contiguous(memory_format=layout)
    mine.square().sum().backward()
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.weight.grad, weight.grad)
    torch.testing.assert_close(seen_by_ours.grad, seen_by_torch.grad)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("px", [1, 2])
def test_what_two_passes_add_is_the_sum_of_what_each_brings(px: int, layout: torch.memory_format) -> None:
    """To the bit: another rank may have computed the one that this rank adds to."""
    ours = convolution(layout, dtype=torch.float32)

    def gradient(*seeds: int) -> Tensor:
        ours.weight.grad = torch.zeros_like(ours.weight)
        collected = ours.weight.grad
        for seed in seeds:
            ours(drawn(48, 5, px, px, seed=seed, dtype=torch.float32)).square().sum().backward()
        assert ours.weight.grad is collected
        return collected

    assert torch.equal(gradient(1, 2), gradient(1) + gradient(2))


def test_a_gradient_is_made_where_there_is_none() -> None:
    ours = convolution(torch.channels_last)
    images = drawn(4, 5, 1, 1)
    (asked,) = torch.autograd.grad(ours(images).square().sum(), [ours.weight])
    assert ours.weight.grad is None
    ours(images).square().sum().backward()
    assert ours.weight.grad is not None
    assert torch.equal(ours.weight.grad, asked)


@pytest.mark.parametrize("px", [1, 2])
def test_in_half_precision_it_is_nearly_the_same(px: int) -> None:
    ours = convolution(torch.channels_last, dtype=torch.float32)
    images = drawn(4, 5, px, px, dtype=torch.float32)
    exact = ours(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ours(images)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.1)
    rounded.float().sum().backward()
    gradient = ours.weight.grad
    ours.weight.grad = None
    exact.sum().backward()
    assert gradient is not None
    assert ours.weight.grad is not None
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, ours.weight.grad, rtol=0.02, atol=0.1)
