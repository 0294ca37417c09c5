"""`model.weights`: what a run starts from, what is left out, and what is refused."""

import hashlib
import math
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from tests.trainer.launch import TINY, Run, resume_from, start
from tests.trainer.warm import TRAINER
from trainer import pretrained
from trainer.config import Model, TrainingConfig
from trainer.data.digits import load_digits
from trainer.errors import ConfigError
from trainer.model import ResNet, build_model
from trainer.pretrained import IMAGENET_URLS, Origin, load_weights
from trainer.state import build_state

CPU = torch.device("cpu")
StateDict = dict[str, Tensor]
ADVICE = "give a state dict, as torch.save(model.state_dict(), PATH) writes it"


def make(weights: str | Path, *, classes: int = 10, px: int = 8, second_head: bool = False) -> tuple[Model, ResNet]:
    setting = Model(weights=str(weights))
    return setting, build_model(setting, classes, px, seed=1, second_head=second_head)


def save(path: Path, **shape: Any) -> StateDict:
    """A file of weights that no run would start with by itself, running statistics included."""
    _, model = make("none", **shape)
    draws = torch.Generator().manual_seed(7)
    state = {
        name: torch.rand(tensor.shape, generator=draws) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, path)
    return state


def taken(model: ResNet, given: StateDict) -> set[str]:
    """The layers that are as in the file."""
    found = model.state_dict()
    return {
        name.rsplit(".", 1)[0]
        for name, tensor in given.items()
        if tensor.is_floating_point() and found[name].shape == tensor.shape and torch.equal(found[name], tensor)
    }


def layers(model: ResNet) -> set[str]:
    return {name.rsplit(".", 1)[0] for name in model.state_dict()}


def remark_of(origin: Origin | None) -> str:
    assert origin is not None
    return origin.remark


def content_of(origin: Origin | None) -> str:
    assert origin is not None
    return origin.content


class TestAFile:
    def test_none_leaves_the_start_to_the_seed(self) -> None:
        setting, model = make("none")
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert load_weights(setting, model, None) is None
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())

    def test_gives_weights_and_running_statistics_and_is_told_by_its_hash(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pt"
        given = save(path)
        setting, model = make(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (
            remark_of(load_weights(setting, model, None))
            == f"started from the weights in {path} (SHA-256 {sha256[:16]})"
        )
        assert taken(model, given) == layers(model)

    def test_student_and_teacher_both_start_from_it(self, tmp_path: Path) -> None:
        given = save(tmp_path / "weights.pt")
        config = TrainingConfig.model_validate({**TINY, "model": {"weights": str(tmp_path / "weights.pt")}})
        state = build_state(config, config.plan(load_digits(CPU).facts), CPU, channels_last=True)
        assert state.teacher is not None
        for network in (state.student, state.teacher):
            for name, tensor in network.state_dict(network.weights, network.running, 0).items():
                assert torch.equal(tensor, given[name]), name
        assert not any(parameter.requires_grad for parameter in state.teacher.model.parameters())

    def test_a_file_without_counts_of_batches_is_as_good(self, tmp_path: Path) -> None:
        given = {name: t for name, t in save(tmp_path / "with.pt").items() if not name.endswith("tracked")}
        torch.save(given, tmp_path / "without.pt")
        setting, model = make(tmp_path / "without.pt")
        load_weights(setting, model, None)
        assert taken(model, given) == layers(model)

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "module._orig_mod."])
    def test_names_may_begin_with_what_stood_around_the_model(self, tmp_path: Path, prefix: str) -> None:
        given = save(tmp_path / "plain.pt")
        torch.save({f"{prefix}{name}": tensor for name, tensor in given.items()}, tmp_path / "around.pt")
        setting, model = make(tmp_path / "around.pt")
        load_weights(setting, model, None)
        assert taken(model, given) == layers(model)

    @pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
    def test_it_may_lie_beside_what_else_a_program_saved(self, tmp_path: Path, name: str) -> None:
        given = save(tmp_path / "plain.pt")
        torch.save({name: given, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "all.pt")
        setting, model = make(tmp_path / "all.pt")
        load_weights(setting, model, None)
        assert taken(model, given) == layers(model)

    def test_a_number_that_is_none_in_a_layer_that_starts_fresh_does_no_harm(self, tmp_path: Path) -> None:
        given = save(tmp_path / "many.pt", classes=1000)
        given["fc.weight"].fill_(math.nan)
        torch.save(given, tmp_path / "many.pt")
        setting, model = make(tmp_path / "many.pt")
        assert "fc starts fresh" in remark_of(load_weights(setting, model, None))

    def test_another_stem_and_other_classes_start_fresh_and_are_named(self, tmp_path: Path) -> None:
        given = save(tmp_path / "imagenet-like.pt", classes=1000, px=224)
        setting, model = make(tmp_path / "imagenet-like.pt")
        remark = remark_of(load_weights(setting, model, None))
        assert "conv1 starts fresh (another stem: (64, 3, 7, 7) there, (64, 3, 3, 3) here)" in remark
        assert "fc starts fresh (another number of classes: (1000, 512) there, (10, 512) here)" in remark
        assert taken(model, given) == layers(model) - {"conv1", "fc"}

    def test_heads_that_only_one_has_are_named(self, tmp_path: Path) -> None:
        save(tmp_path / "one.pt")
        save(tmp_path / "two.pt", second_head=True)
        setting, model = make(tmp_path / "one.pt", second_head=True)
        assert "fc2 starts fresh (the file has one head)" in remark_of(load_weights(setting, model, None))
        setting, model = make(tmp_path / "two.pt")
        assert "fc2 is left out (one head here)" in remark_of(load_weights(setting, model, None))

    def test_what_has_to_be_the_same_on_all_machines_is_the_content_and_not_the_place(self, tmp_path: Path) -> None:
        save(tmp_path / "here.pt", classes=1000)
        (tmp_path / "there.pt").write_bytes((tmp_path / "here.pt").read_bytes())
        save(tmp_path / "other.pt")
        here, there, other = (
            content_of(load_weights(*make(tmp_path / f"{name}.pt"), None)) for name in ("here", "there", "other")
        )
        assert here == there
        assert here != other
        assert "fc starts fresh" in here


class TestRefused:
    def refusal(self, weights: str | Path, data_dir: Path | None = None) -> str:
        setting, model = make(weights)
        with pytest.raises(ConfigError) as refused:
            load_weights(setting, model, str(data_dir) if data_dir else None)
        return str(refused.value)

    def test_another_architecture_is_told_by_what_differs(self, tmp_path: Path) -> None:
        deeper = build_model(Model(name="resnet34"), 10, 8, seed=0)
        torch.save(deeper.state_dict(), tmp_path / "deeper.pt")
        assert re.fullmatch(
            r"model.weights: .*/deeper.pt is not of a resnet18: layer1.2.conv1.weight is \(64, 64, 3, 3\) there and "
            r"absent here, .* \(and \d+ more\); set model.name to what it is of, or give another file",
            self.refusal(tmp_path / "deeper.pt"),
        )

    def test_a_first_layer_for_other_channels_is_no_other_stem(self, tmp_path: Path) -> None:
        state = save(tmp_path / "grey.pt")
        torch.save(state | {"conv1.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "grey.pt")
        assert "conv1.weight is (64, 1, 3, 3) there and (64, 3, 3, 3) here" in self.refusal(tmp_path / "grey.pt")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert f"there is no {tmp_path}/absent.pt on this machine" in self.refusal(tmp_path / "absent.pt")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert "cannot be read (Is a directory)" in self.refusal(tmp_path)

    @pytest.mark.parametrize(("keep", "says"), [(0, "is empty"), (100, "is cut off"), (10_000_000, "is cut off")])
    def test_a_file_that_was_cut_short(self, tmp_path: Path, keep: int, says: str) -> None:
        path = tmp_path / "cut.pt"
        save(path)
        path.write_bytes(path.read_bytes()[:keep])
        assert self.refusal(path) == f"model.weights: {path} {says}; {ADVICE}"

    @pytest.mark.parametrize(
        "content", [b'{"a": 1}', b"a: 1\n", b"hello world", b"\x1b[31mred", pickle.dumps({"a": 1})]
    )
    def test_what_torch_has_not_saved(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "other"
        path.write_bytes(content)
        assert self.refusal(path) == f"model.weights: {path} is no file of torch.save; {ADVICE}"

    @pytest.mark.parametrize(
        "content", [[1, 2], {"state_dict": {}, "epoch": 3}, {3: torch.zeros(2)}, {"optimizer": {"lr": torch.zeros(2)}}]
    )
    def test_something_else_than_a_state_dict(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "other.pt")
        assert "holds something else than a state dict" in self.refusal(tmp_path / "other.pt")

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        torch.save(tmp_path, tmp_path / "path.pt")  # any class that is not a tensor
        said = self.refusal(tmp_path / "path.pt")
        assert "path.pt holds pathlib.PosixPath, and for safety nothing but tensors is loaded; give a state d" in said
        assert "weights_only" not in said

    @pytest.mark.parametrize(("name", "value"), [("bn1.running_var", math.nan), ("layer2.0.conv1.weight", math.inf)])
    def test_a_number_that_is_none(self, tmp_path: Path, name: str, value: float) -> None:
        state = save(tmp_path / "diverged.pt")
        state[name].view(-1)[3] = value
        torch.save(state, tmp_path / "diverged.pt")
        assert self.refusal(tmp_path / "diverged.pt") == (
            f"model.weights: {tmp_path}/diverged.pt has NaN or infinity in {name}, and no training mends that; "
            "give another file"
        )

    def test_imagenet_where_its_file_is_damaged(self, tmp_path: Path) -> None:
        name = IMAGENET_URLS["resnet18"].rpartition("/")[2]
        save(tmp_path / name, classes=1000, px=224)
        assert f"{tmp_path / name} is damaged, its SHA-256 is" in self.refusal("imagenet", tmp_path)

    def test_imagenet_without_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        url = f"http://127.0.0.1:{port}/resnet18-f37072fd.pth"
        monkeypatch.setitem(pretrained.IMAGENET_URLS, "resnet18", url)
        told = self.refusal("imagenet", tmp_path / "data")
        path = tmp_path / "data" / "resnet18-f37072fd.pth"
        assert told.startswith(f"model.weights: imagenet needs {path}, which is not there and could not be downloaded")
        assert told.endswith("put that file there, or set model.weights: none")
        assert "refused" in told


class Shop(SimpleHTTPRequestHandler):
    """Serves files and counts who came."""

    visits: int = 0

    def do_GET(self) -> None:
        Shop.visits += 1
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path / "shop"
    folder.mkdir()
    Shop.visits = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Shop, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestImageNet:
    def test_the_addresses_are_those_of_torchvision(self) -> None:
        for name, url in IMAGENET_URLS.items():
            assert models.get_model_weights(name).IMAGENET1K_V1.url == url

    def test_is_downloaded_once_for_all_ranks_of_a_machine(
        self, shop: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = shop
        given = save(folder / "part", classes=1000, px=224)
        sha256 = hashlib.sha256((folder / "part").read_bytes()).hexdigest()
        name = f"resnet18-{sha256[:8]}.pth"
        (folder / "part").rename(folder / name)
        monkeypatch.setitem(pretrained.IMAGENET_URLS, "resnet18", f"{address}/{name}")
        models = [make("imagenet") for _ in range(4)]
        ranks = [
            threading.Thread(target=load_weights, args=(setting, model, str(tmp_path / "data")))
            for setting, model in models
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        assert Shop.visits == 1
        for _, model in models:
            assert taken(model, given) == layers(model) - {"conv1", "fc"}
        assert {path.name for path in (tmp_path / "data").iterdir()} == {name, f".{name}.lock"}

    def test_a_download_that_is_not_what_it_should_be_is_not_kept(
        self, shop: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = shop
        (folder / "resnet18-f37072fd.pth").write_text("a page that asks to log in")
        monkeypatch.setitem(pretrained.IMAGENET_URLS, "resnet18", f"{address}/resnet18-f37072fd.pth")
        setting, model = make("imagenet")
        with pytest.raises(ConfigError, match=r"what came has the SHA-256 [0-9a-f]{16}, not f37072fd"):
            load_weights(setting, model, str(tmp_path / "data"))
        assert not [path for path in (tmp_path / "data").iterdir() if not path.name.endswith(".lock")]


def test_a_run_starts_from_what_another_has_saved_and_resumes_without_it(undisturbed: Run, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes((undisturbed.checkpoints()[-1] / "teacher.pt").read_bytes())
    config = TINY | {"model": {"weights": str(source)}, "method": "supervised", "steps": 4}
    with start(tmp_path / "run", config) as run:
        run.finish()
        assert [note for note in run.notes() if note.startswith(f"started from the weights in {source} (SHA-256 ")]
        final = run.checkpoints()[-1]
    source.unlink()
    with start(resume_from(final, tmp_path / "again"), config) as run:
        run.finish()
        assert not run.notes()


def test_ranks_start_from_the_same_weights_wherever_each_machine_keeps_them(tmp_path: Path) -> None:
    save(tmp_path / "part", classes=1000, px=224)
    content = (tmp_path / "part").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    for rank in range(2):
        cache = tmp_path / f"home-{rank}" / "elastic" / "weights"
        cache.mkdir(parents=True)
        (cache / name).write_bytes(content)
    with_homes_of_their_own = (
        "import os, trainer.pretrained as pretrained\n"
        f"os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r} + '/home-' + os.environ['RANK']\n"
        f"pretrained.IMAGENET_URLS['resnet18'] = 'http://127.0.0.1:9/{name}'\n"
    )
    config = TINY | {"model": {"weights": "imagenet"}, "method": "supervised", "steps": 2}
    with start(tmp_path / "run", config, ranks=2, code=with_homes_of_their_own + TRAINER) as run:
        run.finish()
        assert any(str(tmp_path / "home-0" / "elastic" / "weights" / name) in note for note in run.notes())
