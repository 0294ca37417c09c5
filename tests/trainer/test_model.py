"""The network is torchvision's resnet18 in all but the time it takes to import."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.resnet import ResNet, resnet18

from tests.trainer.launch import Run, result
from trainer.config import Model
from trainer.data.digits import load_digits
from trainer.model import build_model


def torchvision_resnet18(*, cifar_stem: bool) -> ResNet:
    """Torchvision's, with the two lines that a CIFAR stem changes."""
    model = resnet18(num_classes=10)
    if cifar_stem:
        model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("px", [8, 24])
def test_outputs_and_gradients_are_those_of_torchvision(stem: str, px: int) -> None:
    theirs = torchvision_resnet18(cifar_stem=stem == "cifar").double()
    ours = build_model(Model.model_validate({"stem": stem}), classes=10, image_px=px, seed=0).double()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 3, px, px, dtype=torch.float64)
    for train in (True, False):
        ours.train(train)
        theirs.train(train)
        torch.testing.assert_close(ours(images), theirs(images))
    ours.train()
    theirs.train()
    ours(images).square().sum().backward()
    theirs(images).square().sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, msg=name)


def test_auto_takes_the_cifar_stem_for_small_images_only() -> None:
    kernels = {px: build_model(Model(), 10, px, seed=0).conv1.kernel_size for px in (8, 64, 96)}
    assert kernels == {8: (3, 3), 64: (3, 3), 96: (7, 7)}


def test_the_seed_alone_fixes_the_start_and_leaves_other_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_model(Model(), 10, 8, seed=3)
    assert torch.equal(torch.rand(1), expected)
    again, other = build_model(Model(), 10, 8, seed=3), build_model(Model(), 10, 8, seed=4)
    name = "layer1.0.conv1.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_the_saved_file_loads_into_torchvision_and_gives_the_reported_accuracy(undisturbed: Run, who: str) -> None:
    model = torchvision_resnet18(cifar_stem=True)
    path = Path(undisturbed.checkpoints()[-1], f"{who}.pt")
    model.load_state_dict(torch.load(path, weights_only=True))
    assert int(model.bn1.num_batches_tracked) == 12
    model.eval()
    digits = load_digits(torch.device("cpu"))
    images = (digits.test.fetch(torch.arange(360)) / 255 - digits.mean) / digits.std
    with torch.no_grad():
        predicted = model(images.expand(-1, 3, -1, -1)).argmax(dim=1)
    accuracy = (predicted == digits.test_classes).double().mean().item()
    assert accuracy == pytest.approx(
        result(undisturbed)[f"{who}_accuracy"], abs=1.5 / 360
    )  # an image may be on the edge
