"""3x3 convolutions of images of one or two pixels a side, on a CPU, as matrix products.

There the window sees the whole image wherever it stands, and much beyond: only the taps that lie on pixels need be
multiplied with, one of nine or four. Each row of pixels lies under neighbouring taps, so that the products are taken of
the weights where they are, and what they bring to the weights' gradient is added where that is. Autograd would make a
gradient of all nine taps first, of one pixel's eight ninths zeros, to be written and read.

Of a step on 8x8 images, whose last two layers are so small, the left out taps saved a quarter for images of one pixel
(AVX-512) and a quarter of what was left for those of two (AVX2); that nothing is copied, a twelfth of the rest (AVX2).
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_PIXELS = 2
"""A side: of a larger image the window does not see all from everywhere."""


def suits(images: Tensor) -> bool:
    """Whether they are such images, and here to be computed so; a compiler does it its own way."""
    height, width = images.shape[-2:]
    return images.device.type == "cpu" and height == width <= MOST_PIXELS and not torch.compiler.is_compiling()


def convolve(images: Tensor, weight: Tensor, stride: int) -> Tensor:
    """What F.conv2d gives with a padding of 1, in the layout of `images`.

    A backward pass adds to `weight.grad` if there is one.
    """
    out: Tensor = _Convolution.apply(images, weight, stride)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return out.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


class _Run(NamedTuple):
    """That a row of pixels lies under the taps from `first` on when the window's centre is at a place."""

    first: int
    place: int
    row: int


@cache
def _runs(side: int, stride: int) -> list[_Run]:
    """All of an image, by first tap; taps, and the places of the window, are numbered row by row."""
    places = [(top, left) for top in range(0, side, stride) for left in range(0, side, stride)]
    return sorted(
        _Run(3 * (row - top + 1) + 1 - left, place, row)
        for place, (top, left) in enumerate(places)
        for row in range(side)
    )


class _Convolution(torch.autograd.Function):
    """In the weight's precision; what it gives has the precision of its images, or that of autocast."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        rows = images.permute(0, 2, 3, 1).flatten(2).to(weight.dtype)
        taps = weight.permute(0, 2, 3, 1).flatten(1)
        runs, places = _runs(images.shape[-1], stride), len(range(0, images.shape[-1], stride))
        ctx.save_for_backward(rows, taps)
        ctx.weight, ctx.runs, ctx.images = weight, runs, images.dtype
        out = weight.new_empty(len(rows), places * places, len(weight))
        _sum_up(out, ((run.place, rows[:, run.row], _under(taps, run, rows).t()) for run in runs))
        given = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        return out.to(given).view(-1, places, places, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, taps = ctx.saved_tensors
        weight: Tensor = ctx.weight
        above, below = gradient.permute(0, 2, 3, 1).flatten(1, 2).to(weight.dtype), None
        if ctx.needs_input_grad[0]:
            side = rows.shape[1]
            sums = torch.empty_like(rows)
            _sum_up(sums, ((run.row, above[:, run.place], _under(taps, run, rows)) for run in ctx.runs))
            below = sums.to(ctx.images).view(len(rows), side, side, -1).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[1]:
            return below, None, None
        collected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        for tap, part in _parts(above, rows, ctx.runs):
            collected[:, :, tap // 3, tap % 3].add_(part)
        return below, collected if weight.grad is None else None, None


def _parts(above: Tensor, rows: Tensor, runs: list[_Run]) -> Iterator[tuple[int, Tensor]]:
    """By tap what a pass brings to its gradient, in one piece: so it is what a sum over shards adds."""
    for _, under_one_row in groupby(runs, lambda run: run.first // 3):
        of = list(under_one_row)
        firsts = sorted({run.first for run in of})
        sums = above.new_empty(above.shape[2], len(firsts), rows.shape[2])
        _sum_up(sums, ((firsts.index(run.first), above[:, run.place].t(), rows[:, run.row]) for run in of))
        parts: dict[int, Tensor] = {}
        for number, first in enumerate(firsts):
            for tap, part in enumerate(sums[:, number].chunk(rows.shape[1], dim=1), first):
                parts[tap] = parts[tap].add_(part) if tap in parts else part
        yield from parts.items()


def _under(taps: Tensor, run: _Run, rows: Tensor) -> Tensor:
    """[outputs, pixels of a row x inputs]: the weights that they are multiplied with."""
    width = rows.shape[2]
    inputs = width // rows.shape[1]
    return taps[:, run.first * inputs : run.first * inputs + width]


def _sum_up(out: Tensor, products: Iterable[tuple[int, Tensor, Tensor]]) -> None:
    """Leave in out[:, number] the sum of the products of that number."""
    begun = set[int]()
    for number, left, right in products:
        out[:, number].addmm_(left, right, beta=int(number in begun))
        begun.add(number)
