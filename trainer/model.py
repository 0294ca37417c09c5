"""ResNet-18, -34 and -50 (He et al., 2016) with the names, shapes and initialisation of torchvision's.

Written here rather than imported: torchvision takes 3 s to import (it loads torch's compiler), which every start and
every resume would pay. A test holds them to torchvision's: same state dict, same outputs, same gradients.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import Model

INPUT_CHANNELS = 3


class Conv3x3(nn.Conv2d):
    """3x3 convolution without bias.

    On an image of one or two pixels a side the window sees the whole of it wherever it stands, and much beyond. There
    it is computed as what it is, a product with one matrix: the same function with a ninth (one pixel) or four ninths
    (two) of the multiplications. Of a step on 8x8 images, whose last two layers are so small, the one saved a quarter
    (AVX-512), and the other a quarter of what was left (AVX2, float32).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if x.device.type == "cpu" and height == width and height <= 2:
            return self._product(x, height)
        if height == width == 1:
            return F.conv2d(x, self.weight[:, :, 1:2, 1:2])
        return super().forward(x)  # a GPU would add up the product's gradient in an order that changes

    def _product(self, x: Tensor, side: int) -> Tensor:
        """[N, pixels x inputs] times [pixels x inputs, outputs x places of the window]; in the layout of `x`."""
        places = range(0, side, self.stride[0])
        taps = self.weight.permute(0, 2, 3, 1).flatten(1, 2)  # outputs, taps, inputs
        matrix = taps.index_select(1, torch.tensor(_taps(places, range(side)))).view(-1, side * side * self.in_channels)
        out = F.linear(x.permute(0, 2, 3, 1).flatten(1), matrix).view(-1, self.out_channels, len(places), len(places))
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        return out.contiguous(memory_format=torch.channels_last) if channels_last else out


def _taps(places: Sequence[int], pixels: Sequence[int]) -> list[int]:
    """Which of the window's nine taps lies on each pixel of the image when its centre is at each place, row by row."""
    return [
        3 * (row - top + 1) + (column - left + 1)
        for top in places
        for left in places
        for row in pixels
        for column in pixels
    ]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution and the shortcut change size and channels."""

    expansion = 1
    """Channels that it gives for each of its width."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, width, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1 that narrow and widen, and a shortcut; the 3x3 one changes size.

    He et al. change it in the first; torchvision, and so everyone's weights, in the 3x3 one ("ResNet v1.5").
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, 4 width, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings a shortcut to the shape of its block's output; None where it has it."""
    if stride == 1 and inputs == outputs:
        return None
    convolution = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


Block = type[BasicBlock] | type[Bottleneck]

ARCHITECTURES: dict[str, tuple[Block, tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Kind of block, and how many of them each of the four layers has."""


class ResNet(nn.Module):
    """[N, 3, H, W] to logits [N, classes].

    The CIFAR stem keeps small images at full size where torchvision's halves them twice: conv1 is 3x3 with stride 1,
    and there is no pooling.

    checkpoint_activations: keep only what enters each block, and compute the rest again in the backward pass. A
        BatchNorm layer then sees its batch twice, which leaves its statistics as they were only if its momentum is 1.
    """

    def __init__(
        self,
        name: str,
        classes: int,
        *,
        cifar_stem: bool,
        second_head: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        block, (first, second, third, fourth) = ARCHITECTURES[name]
        if cifar_stem:
            self.conv1: nn.Conv2d = Conv3x3(INPUT_CHANNELS, 64)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(INPUT_CHANNELS, 64, kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        wide = block.expansion
        self.layer1 = _layer(block, 64, 64, first, stride=1)
        self.layer2 = _layer(block, 64 * wide, 128, second, stride=2)
        self.layer3 = _layer(block, 128 * wide, 256, third, stride=2)
        self.layer4 = _layer(block, 256 * wide, 512, fourth, stride=2)
        self.fc = nn.Linear(512 * wide, classes)
        self.fc2 = nn.Linear(512 * wide, classes) if second_head else None
        self._checkpoints = checkpoint_activations

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.fc(self._features(x))  # type: ignore[no-any-return]

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits for the labels to pull, and logits for the teacher to pull: the same where there is one head."""
        features = self._features(x)
        logits = self.fc(features)
        return logits, logits if self.fc2 is None else self.fc2(features)

    def _features(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                x = self._through(block, x)
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        if self._checkpoints and torch.is_grad_enabled():
            from torch.utils.checkpoint import checkpoint

            # Nothing in a block is drawn at random, so there is no generator to set back.
            return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
        return block(x)  # type: ignore[no-any-return]


def _layer(block: Block, inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width, of which the first changes size and channels."""
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(blocks - 1)))


def build_model(setting: Model, classes: int, image_px: int, seed: int, *, second_head: bool = False) -> ResNet:
    """The network as the config describes it, initialised by the seed alone (He et al., 2015, fan-out)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ResNet(
            setting.name,
            classes,
            cifar_stem=setting.has_cifar_stem(image_px),
            second_head=second_head,
            checkpoint_activations=setting.checkpoint_activations,
        )
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """All BatchNorm layers with their names, in a fixed order."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield name, module
