"""ResNet-18, -34 and -50 (He et al., 2016) with the names, shapes and initialisation of torchvision's.

Written here rather than imported: torchvision takes 3 s to import (it loads torch's compiler), which every start and
every resume would pay. A test holds them to torchvision's: same state dict, same outputs, same gradients.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import few_pixels
from trainer.config import Model

INPUT_CHANNELS = 3


class Conv3x3(nn.Conv2d):
    """3x3 convolution without bias.

    On images of one or two pixels a side, as in the last two layers for 8x8 images, without the taps that see none:
    see `few_pixels`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if few_pixels.suits(x):
            return few_pixels.convolve(x, self.weight, self.stride[0])
        if height == width == 1:
            return F.conv2d(x, self.weight[:, :, 1:2, 1:2])
        return super().forward(x)  # a GPU would add up the product's gradient in an order that changes


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
