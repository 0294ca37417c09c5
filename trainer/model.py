"""ResNet-18 (He et al., 2016, section 4.1) with the names, shapes and initialisation of torchvision's resnet18.

Written here rather than imported: torchvision takes 3 s to import (it loads torch's compiler), which every start and
every resume would pay. A test holds it to torchvision's: same state dict, same outputs, same gradients.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import Model

INPUT_CHANNELS = 3


class Conv3x3(nn.Conv2d):
    """3x3 convolution without bias.

    On an image of one pixel the window sees only its centre, so only that is computed: the same function with a ninth
    of the work. On 8x8 images, whose last layers are at one pixel, a step takes a quarter less time.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            return F.conv2d(x, self.weight[:, :, 1:2, 1:2])
        return super().forward(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution and the shortcut change size and channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)


class ResNet18(nn.Module):
    """[N, 3, H, W] to logits [N, classes].

    The CIFAR stem keeps small images at full size where torchvision's halves them twice: conv1 is 3x3 with stride 1,
    and there is no pooling.
    """

    def __init__(self, classes: int, *, cifar_stem: bool, second_head: bool = False) -> None:
        super().__init__()
        if cifar_stem:
            self.conv1: nn.Conv2d = Conv3x3(INPUT_CHANNELS, 64)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(INPUT_CHANNELS, 64, kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, classes)
        self.fc2 = nn.Linear(512, classes) if second_head else None

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
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


def build_model(setting: Model, classes: int, image_px: int, seed: int, *, second_head: bool = False) -> ResNet18:
    """The network as the config describes it, initialised by the seed alone (He et al., 2015, fan-out)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ResNet18(classes, cifar_stem=setting.has_cifar_stem(image_px), second_head=second_head)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """All BatchNorm layers with their names, in a fixed order."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield name, module
