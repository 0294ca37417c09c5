"""The networks are torchvision's in all but the time they take to import."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet
from torchvision.models.resnet import ResNet

from tests.trainer.launch import Run, result
from trainer.config import Model
from trainer.data.digits import load_digits
from trainer.model import build_model
from trainer.network import FlatNetwork
from trainer.peak_memory import peak_bytes
from trainer.precision import Precision, autocast

CPU = torch.device("cpu")


def torchvision_model(name: str, *, cifar_stem: bool) -> ResNet:
    """Torchvision's, with the two lines that a CIFAR stem changes."""
    model: ResNet = getattr(resnet, name)(num_classes=10)
    if cifar_stem:
        model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model


@pytest.mark.parametrize(
    ("name", "stem", "px"),
    [
        ("resnet18", "cifar", 8),  # 8 pixels are one at the end: where a 3x3 convolution sees its centre only
        ("resnet18", "imagenet", 8),
        ("resnet18", "cifar", 24),
        ("resnet18", "imagenet", 24),
        ("resnet34", "cifar", 8),
        ("resnet34", "imagenet", 40),
        ("resnet50", "cifar", 8),
        ("resnet50", "imagenet", 40),
    ],
)
def test_outputs_and_gradients_are_those_of_torchvision(name: str, stem: str, px: int) -> None:
    theirs = torchvision_model(name, cifar_stem=stem == "cifar").double()
    setting = Model.model_validate({"name": name, "stem": stem})
    ours = build_model(setting, classes=10, image_px=px, seed=0).double()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 3, px, px, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for train in (True, False):
        ours.train(train)
        theirs.train(train)
        torch.testing.assert_close(ours(images), theirs(images))
    ours.train()
    theirs.train()
    ours(images).square().sum().backward()
    theirs(images).square().sum().backward()
    for (parameter, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, msg=parameter)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_weights_start_as_those_of_torchvision(name: str) -> None:
    ours = build_model(Model.model_validate({"name": name}), 10, 96, seed=0).state_dict()
    for parameter, theirs in torchvision_model(name, cifar_stem=False).state_dict().items():
        if theirs.dim() < 4 and not parameter.startswith("fc"):
            assert torch.equal(ours[parameter], theirs), parameter  # ones and zeros
        elif theirs.numel() > 1000:
            assert float(ours[parameter].std()) == pytest.approx(float(theirs.std()), rel=0.1), parameter


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_second_head_comes_last_and_leaves_the_rest_alone(name: str) -> None:
    setting = Model.model_validate({"name": name})
    one, two = (build_model(setting, 10, 8, seed=0, second_head=wanted) for wanted in (False, True))
    assert list(two.state_dict()) == [*one.state_dict(), "fc2.weight", "fc2.bias"]
    images = torch.randn(4, 3, 8, 8)
    labels, pulled = one.heads(images)
    assert labels is pulled
    labels, pulled = two.heads(images)
    assert labels.shape == pulled.shape == (4, 10)
    assert not torch.equal(labels, pulled)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_activations_computed_again_give_the_same_bits_from_less_memory(name: str, precision: Precision) -> None:
    gradients, statistics, memory_bytes = {}, {}, {}
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for again in (False, True):
        setting = Model.model_validate({"name": name, "checkpoint_activations": again})
        network = FlatNetwork(build_model(setting, 10, 16, seed=0), CPU)
        gradients[again] = torch.zeros_like(network.weights)
        network.collect_gradients_in(gradients[again])

        def learn(network: FlatNetwork = network) -> None:
            with autocast(precision, CPU):
                logits, _ = network.model.heads(images)
            logits.float().square().sum().backward()  # type: ignore[no-untyped-call]

        learn()
        statistics[again] = network.batch_statistics.clone()
        gradient = gradients[again].clone()
        memory_bytes[again] = peak_bytes(learn, CPU)
        gradients[again] = gradient
    assert gradients[True].abs().sum() > 0
    assert torch.equal(gradients[True], gradients[False])
    assert torch.equal(statistics[True], statistics[False])
    assert memory_bytes[True] < 0.75 * memory_bytes[False]


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
    model = torchvision_model("resnet18", cifar_stem=True)
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
