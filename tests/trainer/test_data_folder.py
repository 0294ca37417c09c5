"""The user's own images: what is found, what is refused, and in which words."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.forbidden import no_entry
from tests.trainer.images import CLASSES, PX, config_of, make_folders, picture, save_pictures
from trainer.config import TrainingConfig
from trainer.data import look, reading
from trainer.data.dataset import Dataset, ResidentPixels, channel_statistics
from trainer.data.decode import decode_from
from trainer.data.load import load_dataset
from trainer.data.sources import ArraySource, FileSource, StreamedPixels
from trainer.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folders(tmp_path / "images")


def load(config: TrainingConfig) -> Dataset:
    return load_dataset(config, CPU)


def train_pixels(dataset: Dataset) -> torch.Tensor:
    return dataset.train.fetch(torch.arange(len(dataset.train)))


def damage(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"no image at all")


def refusal(root: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config_of(root, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_facts_come_from_looking(root: Path) -> None:
    facts = load(config_of(root, folders={"mirrors": False})).facts
    assert (facts.train_images, facts.test_images, facts.classes, facts.image_px) == (18, 9, 3, PX)
    assert facts.extra_unlabelled == 10
    assert not facts.mirrors


def test_images_are_in_the_order_of_their_names_the_unlabelled_last(root: Path) -> None:
    save_pictures(root / "labelled" / "cat" / "a" / "b", 1, 50, ".JPG")
    dataset = load(config_of(root))
    assert dataset.class_names == CLASSES
    assert dataset.names[:8] == (*(f"cat/0{n}.png" for n in range(6)), "cat/a/b/00.JPG", "dog/00.png")
    assert dataset.names[19:26] == (*(f"0{n}.png" for n in range(5)), "more/deep/00.png", "more/deep/01.png")
    assert dataset.train_classes.tolist() == [0] * 7 + [1] * 6 + [2] * 6
    assert dataset.test_classes.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    pixels = train_pixels(dataset)
    assert pixels.shape == (29, 3, PX, PX)
    middle = picture(100).resize((PX, PX), Image.Resampling.BILINEAR, box=(2, 0, 18, 16))  # dog/00.png
    assert np.array_equal(pixels[7].numpy(), np.asarray(middle).transpose(2, 0, 1))


def test_hidden_files_and_other_files_are_not_images(root: Path) -> None:
    names = load(config_of(root)).names
    (root / "labelled" / "cat" / ".hidden.png").write_bytes(b"x")
    (root / "labelled" / "cat" / "notes.txt").write_text("x")
    (root / "labelled" / ".git" / "objects").mkdir(parents=True)
    save_pictures(root / "unlabelled" / ".cache", 2, 0)
    assert load(config_of(root)).names == names


def test_links_are_followed_and_not_in_a_circle(root: Path, tmp_path: Path) -> None:
    save_pictures(tmp_path / "elsewhere", 2, 300)
    (root / "unlabelled" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "unlabelled" / "circle").symlink_to(root / "unlabelled")
    assert load(config_of(root)).facts.extra_unlabelled == 12


def test_a_link_that_cannot_be_followed_is_an_image_only_if_it_is_named_as_one(root: Path) -> None:
    names = load(config_of(root)).names
    for place in (root / "labelled", root / "labelled" / "cat", root / "test", root / "unlabelled"):
        (place / "loop").symlink_to("loop")
        (place / "far").symlink_to(300 * "n")
    assert load(config_of(root)).names == names
    (root / "labelled" / "cat" / "loop.png").symlink_to("loop.png")
    (root / "unlabelled" / "far.png").symlink_to(300 * "n")
    assert refusal(root).startswith(
        "folders: 2 of 39 images cannot be read: labelled/cat/loop.png (Too many levels of symbolic links), "
        "unlabelled/far.png (File name too long); mend"
    )
    assert load(config_of(root, folders={"unreadable": "skip"})).names == names


def test_a_link_into_a_directory_that_this_user_may_not_enter_is_said(root: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "yak").mkdir(parents=True)
    (root / "labelled" / "yak").symlink_to(tmp_path / "theirs" / "yak")
    with no_entry(tmp_path / "theirs"):
        assert refusal(root) == f"{root / 'labelled' / 'yak'}: cannot be read: Permission denied"


def test_without_an_unlabelled_folder_the_images_without_label_serve(root: Path) -> None:
    config = config_of(root, labels=6, folders={"unlabelled": None})
    dataset = load(config)
    assert dataset.facts.extra_unlabelled == 0
    assert config.plan(dataset.facts).unlabelled_count == 12


def test_statistics_are_over_the_training_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load(config_of(root))
    mean, std = channel_statistics(train_pixels(dataset))
    assert torch.equal(dataset.mean, mean) and torch.equal(dataset.std, std)
    monkeypatch.setattr(look, "SAMPLED_FOR_STATISTICS", 7)
    sampled = [0, 4, 8, 12, 16, 20, 24]
    expected, _ = channel_statistics(train_pixels(dataset)[sampled])
    streamed = load(config_of(root, data_dir=str(root / ".a"), loading={"images": "stream"}))
    resident = load(config_of(root, data_dir=str(root / ".b"), loading={"images": "device"}))
    assert streamed.mean.tolist() == resident.mean.tolist() == expected.tolist()


def test_folders_may_move_and_be_copied(root: Path, tmp_path: Path) -> None:
    before = load(config_of(root)).fingerprint
    shutil.copytree(root, tmp_path / "moved" / "images", copy_function=shutil.copyfile)
    assert load(config_of(tmp_path / "moved" / "images")).fingerprint == before
    (tmp_path / "moved/images/labelled/cat/00.png").rename(tmp_path / "moved/images/labelled/cat/zz.png")
    assert load(config_of(tmp_path / "moved" / "images")).fingerprint != before


def test_a_second_start_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(config_of(root))
    monkeypatch.setattr(reading, "decode_from", None)
    second = load(config_of(root))
    assert isinstance(second.train, ResidentPixels)
    assert torch.equal(train_pixels(first), train_pixels(second))
    assert torch.equal(first.mean, second.mean) and first.fingerprint == second.fingerprint
    streamed = load(config_of(root, loading={"images": "stream"}))
    assert isinstance(streamed.train, StreamedPixels) and isinstance(streamed.train.source, ArraySource)


def test_a_later_start_opens_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for images in ("stream", "device"):
        first = load(config_of(root, loading={"images": images}))
        with monkeypatch.context() as patch:
            patch.setattr(reading, "open_image", None)
            assert load(config_of(root, loading={"images": images})).fingerprint == first.fingerprint


@pytest.fixture
def bitmaps(tmp_path: Path) -> Path:
    """Two sets of images of the same names and sizes, in one and in other."""
    for first_seed, directory in ((0, "one"), (50, "other")):
        for number, name in enumerate(("labelled/cat", "labelled/dog", "test/cat", "test/dog", "unlabelled")):
            save_pictures(tmp_path / directory / name, 2, first_seed + 2 * number, ".bmp")
    return tmp_path


def overwrite(file: Path, other: Path) -> None:
    """In place, leaving the time of change as it was."""
    status = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(file: Path, other: Path) -> None:
    """By another file that has the same time of change."""
    status = file.stat()
    shutil.copyfile(other, file.with_suffix(".new"))
    os.utime(file.with_suffix(".new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    file.with_suffix(".new").rename(file)


@pytest.mark.parametrize("images", ["device", "stream"])
def test_other_images_of_the_same_names_and_sizes_are_not_confused(bitmaps: Path, images: str) -> None:
    one, other = bitmaps / "one", bitmaps / "other"
    loading = {"images": images}
    apart = load(config_of(other, data_dir=str(bitmaps / "apart"), loading=loading))
    first = load(config_of(one, loading=loading))
    second = load(config_of(other, loading=loading))
    assert torch.equal(train_pixels(second), train_pixels(apart)) and torch.equal(second.mean, apart.mean)
    assert second.fingerprint == apart.fingerprint != first.fingerprint
    again = load(config_of(one, loading=loading))
    assert torch.equal(train_pixels(again), train_pixels(first)) and again.fingerprint == first.fingerprint


@pytest.mark.parametrize("images", ["device", "stream"])
@pytest.mark.parametrize("change", [overwrite, replace])
def test_images_that_were_exchanged_are_looked_at_again(
    bitmaps: Path, images: str, change: Callable[[Path, Path], None]
) -> None:
    one, loading = bitmaps / "one", {"images": images}
    before = load(config_of(one, loading=loading))
    for file in one.rglob("*.bmp"):
        change(file, bitmaps / "other" / file.relative_to(one))
    after, expected = load(config_of(one, loading=loading)), load(config_of(bitmaps / "other"))
    assert torch.equal(train_pixels(after), train_pixels(expected)) and torch.equal(after.mean, expected.mean)
    assert after.fingerprint == expected.fingerprint != before.fingerprint


def test_images_that_were_exchanged_among_classes_are_others(bitmaps: Path) -> None:
    before = load(config_of(bitmaps / "one"))
    labelled = bitmaps / "one" / "labelled"
    for old, new in (("cat", "other"), ("dog", "cat"), ("other", "dog")):
        (labelled / old).rename(labelled / new)
    after = load(config_of(bitmaps / "one"))
    assert after.fingerprint != before.fingerprint
    assert torch.equal(train_pixels(after)[:2], train_pixels(before)[2:4])


def test_the_same_images_elsewhere_are_read_once_and_not_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(config_of(root))
    moved = shutil.copytree(root, tmp_path / "moved" / "images", copy_function=shutil.copyfile)
    monkeypatch.setattr(reading, "decode_from", None)
    config = config_of(moved, data_dir=str(tmp_path / "data"))
    second = load(config)
    assert torch.equal(train_pixels(first), train_pixels(second)) and first.fingerprint == second.fingerprint
    assert len(list((tmp_path / "data").rglob("train.npy"))) == 1
    monkeypatch.setattr(reading, "open_image", None)
    assert load(config).fingerprint == load(config_of(root)).fingerprint == first.fingerprint


def test_what_others_decoded_is_used_from_a_data_dir_that_cannot_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(config_of(root))
    (lock,) = (tmp_path / "data").rglob("lock")
    lock.unlink()
    lock.mkdir()
    moved = shutil.copytree(root, tmp_path / "moved" / "images", copy_function=shutil.copyfile)
    monkeypatch.setattr(reading, "decode_from", None)
    for _ in range(2):
        second = load(config_of(moved, data_dir=str(tmp_path / "data")))
        assert torch.equal(train_pixels(first), train_pixels(second))
        assert "looked at again at every start, since" in second.remarks[0]
    assert load(config_of(root)).remarks == ()


def test_an_image_that_is_written_to_while_it_is_read_is_unreadable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_to(file: BufferedReader, path: Path, px: int) -> Any:
        pixels = decode_from(file, path, px)
        if path.name == "05.png":
            picture(9).save(path)
        return pixels

    monkeypatch.setattr(reading, "decode_from", written_to)
    assert "labelled/cat/05.png (written to while it was read)" in refusal(root)


def test_ranks_that_start_together_decode_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(file: BufferedReader, path: Path, px: int) -> Any:
        decoded.append(path)
        return decode_from(file, path, px)

    monkeypatch.setattr(reading, "decode_from", counted)
    with ThreadPoolExecutor(3) as ranks:
        datasets = list(ranks.map(lambda _: load(config_of(root)), range(3)))
    assert len(decoded) == len(set(decoded)) == 37
    assert len({dataset.fingerprint for dataset in datasets}) == 1


def test_streaming_keeps_no_pixels_but_what_was_found_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(root, loading={"images": "stream"})
    first = load(config)
    assert isinstance(first.train, StreamedPixels) and isinstance(first.train.source, FileSource)
    assert {path.name for path in (root.parent / "data").rglob("*.npy")} == {"train_sha256.npy", "test_sha256.npy"}
    monkeypatch.setattr(reading, "decode_from", None)
    assert torch.equal(load(config).mean, first.mean)


def test_a_start_that_was_cut_short_is_done_again(root: Path) -> None:
    expected = train_pixels(load(config_of(root)))
    (kept,) = (root.parent / "data" / "decoded").glob("*/content-*")
    (kept / "about.json").unlink()
    (kept / "train.npy").write_bytes((kept / "train.npy").read_bytes()[:5000])
    assert torch.equal(train_pixels(load(config_of(root))), expected)
    (kept / "train.npy").write_bytes((kept / "train.npy").read_bytes()[:5000])
    assert torch.equal(train_pixels(load(config_of(root))), expected)


def test_many_are_decoded_by_processes_with_the_same_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(root, "unlabelled/03.png")
    alone = load(config_of(root, folders={"unreadable": "skip"}))
    monkeypatch.setattr(look, "FEW", 0)
    monkeypatch.setattr(look, "CHUNK", 4)
    config = config_of(root, folders={"unreadable": "skip"}, data_dir=str(root / ".other"), loading={"workers": 2})
    together = load(config)
    assert torch.equal(train_pixels(together), train_pixels(alone))
    assert (together.names, together.fingerprint) == (alone.names, alone.fingerprint)


def test_a_data_dir_that_is_no_directory_costs_time_and_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    dataset = load(config_of(root))
    assert len(train_pixels(dataset)) == 28
    (remark,) = dataset.remarks
    assert re.fullmatch(
        r"folders: all images are looked at again at every start, since .*/data/.*: Not a dir.*", remark
    )


def test_a_full_disk_costs_time_and_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.shelf.LARGEST_SHARE_OF_FREE_DISK", 0.0)
    dataset = load(config_of(root))
    assert len(train_pixels(dataset)) == 28
    assert "are free at" in dataset.remarks[0]
    assert not list((root.parent / "data").rglob("*.npy"))


def test_a_missing_directory_is_refused(root: Path) -> None:
    shutil.rmtree(root / "test")
    assert refusal(root) == f"folders.test: {root}/test cannot be read as a directory: No such file or directory"


def test_a_directory_without_classes_is_refused(root: Path) -> None:
    assert "has no class directories; give each class one" in refusal(
        root, folders={"labelled": str(root / "unlabelled" / "more" / "deep")}
    )


def test_a_single_class_is_refused(root: Path) -> None:
    folders = {"labelled": str(root / "unlabelled"), "test": str(root / "unlabelled")}
    assert "has one class directory, class 'more'; there must be two or more" in refusal(root, folders=folders)


def test_a_class_without_images_is_refused(root: Path) -> None:
    (root / "labelled" / "eel").mkdir()
    assert refusal(root) == (
        f"folders.labelled: no images in {root}/labelled for class 'eel'; put some in or remove the directory"
    )


def test_classes_have_to_be_the_same_in_both_folders(root: Path) -> None:
    save_pictures(root / "test" / "eel", 1, 0)
    assert "class 'eel' is no class of folders.labelled" in refusal(root)
    shutil.rmtree(root / "test" / "eel")
    shutil.rmtree(root / "test" / "owl")
    shutil.rmtree(root / "test" / "dog")
    assert "has no directory for classes 'dog', 'owl', which folders.labelled has" in refusal(root)


def test_an_empty_unlabelled_folder_is_refused(root: Path) -> None:
    (root / "nothing").mkdir()
    assert "has no images; put some there or leave the field out" in refusal(
        root, folders={"unlabelled": str(root / "nothing")}
    )


def test_an_address_in_a_bucket_is_refused(root: Path) -> None:
    assert "is in a bucket, and the trainer reads local directories" in refusal(
        root, folders={"test": "s3://bucket/test"}
    )


def test_more_labels_than_images_are_refused(root: Path) -> None:
    assert "19 labels are more than folder has training images: 18" in refusal(root, labels=19)


def test_unreadable_images_are_counted_and_named(root: Path) -> None:
    damage(root, "labelled/cat/01.png", "unlabelled/more/deep/02.png", "test/owl/00.png")
    assert refusal(root) == (
        "folders: 3 of 37 images cannot be read: labelled/cat/01.png (no image format that is known), "
        "unlabelled/more/deep/02.png (no image format that is known), test/owl/00.png (no image format that is known); "
        "mend or remove them, or set folders.unreadable: skip"
    )
    damage(root, *(f"unlabelled/0{n}.png" for n in range(5)))
    assert "and 3 more; mend" in refusal(root)
    assert not list((root.parent / "data").rglob("*.npy"))


@pytest.mark.parametrize("images", ["device", "stream"])
def test_unreadable_images_are_skipped_if_wished_and_told(root: Path, images: str) -> None:
    whole = load(config_of(root, loading={"images": images}))
    whole_pixels = train_pixels(whole)
    damage(root, "labelled/cat/01.png", "test/owl/00.png")
    config = config_of(root, folders={"unreadable": "skip"}, loading={"images": images})
    for dataset in (load(config), load(config)):
        assert (dataset.facts.train_images, dataset.facts.test_images) == (17, 8)
        assert "cat/01.png" not in dataset.names
        assert Counter(dataset.train_classes.tolist()) == {0: 5, 1: 6, 2: 6}
        kept = [index for index, name in enumerate(whole.names) if name != "cat/01.png"]
        assert torch.equal(train_pixels(dataset), whole_pixels[kept])
        assert dataset.remarks[0].startswith("folders: 2 of 37 images cannot be read: labelled/cat/01.png (")
        assert dataset.fingerprint != whole.fingerprint
    assert "2 of 37 images cannot be read" in refusal(root, loading={"images": images})


def test_an_image_that_was_mended_is_read_again(root: Path) -> None:
    path = root / "labelled" / "cat" / "01.png"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    assert load(config_of(root, folders={"unreadable": "skip"})).facts.train_images == 17
    path.write_bytes(content)
    assert load(config_of(root, folders={"unreadable": "skip"})).facts.train_images == 18


def test_a_class_that_no_image_can_be_read_of_is_refused(root: Path) -> None:
    damage(root, *(f"test/dog/0{n}.png" for n in range(3)))
    message = refusal(root, folders={"unreadable": "skip"})
    assert message.startswith("folders.test: no image can be read of class 'dog'; 3 of 37 images cannot be read")


def test_images_outside_the_classes_are_told(root: Path) -> None:
    save_pictures(root / "labelled", 2, 0)
    (remark,) = load(config_of(root)).remarks
    assert remark == f"folders: 2 images outside the class directories are not used, such as {root}/labelled/00.png"


def test_files_of_other_kinds_are_told(root: Path) -> None:
    for name in ("labelled/cat/p.heic", "labelled/dog/deep.HEIC", "test/owl/p.svg", "unlabelled/q.heic"):
        (root / name).write_text("x")
    (root / "unlabelled" / "photo").write_text("x")
    for name in (".DS_Store", "Thumbs.db", "labels.csv", "p.xml", "LICENSE"):
        (root / "labelled" / "cat" / name).write_text("x")
    dataset = load(config_of(root))
    (remark,) = dataset.remarks
    assert remark == (
        "folders: 5 files of kinds that cannot be read (.heic, no suffix, .svg) are not used, "
        f"such as {root}/labelled/cat/p.heic"
    )
    assert dataset.facts.train_images == 18


def test_images_of_other_kinds_alone_are_none(root: Path) -> None:
    (root / "labelled" / "eel").mkdir()
    (root / "labelled" / "eel" / "p.heic").write_text("x")
    assert refusal(root) == (
        f"folders.labelled: no images in {root}/labelled for class 'eel', but 1 file of kinds that cannot be read "
        "(.heic), to be converted to JPEG or PNG; put some in or remove the directory"
    )
    shutil.rmtree(root / "labelled" / "eel")
    (root / "heic").mkdir()
    for name in ("a.heic", "b.heic"):
        (root / "heic" / name).write_text("x")
    assert refusal(root, folders={"unlabelled": str(root / "heic")}) == (
        f"folders.unlabelled: {root}/heic has no images, but 2 files of kinds that cannot be read (.heic), "
        "to be converted to JPEG or PNG; put some there or leave the field out"
    )


@pytest.mark.timeout(30)
@pytest.mark.parametrize("images", ["device", "stream"])
def test_a_pipe_is_no_image_and_holds_nobody_up(root: Path, images: str) -> None:
    names = load(config_of(root)).names
    os.mkfifo(root / "labelled" / "cat" / "pipe.png")
    os.mkfifo(root / "unlabelled" / "pipe.heic")
    assert "1 of 38 images cannot be read: labelled/cat/pipe.png (no regular file); mend" in refusal(root)
    config = config_of(root, folders={"unreadable": "skip"}, loading={"images": images})
    assert load(config).names == load(config).names == names


def test_images_whose_range_is_not_known_are_left_out_if_wished(root: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(root / "labelled" / "cat" / "float.tif")
    assert "labelled/cat/float.tif (floating-point values, whose range is not known); mend" in refusal(root)
    assert load(config_of(root, folders={"unreadable": "skip"})).facts.train_images == 18


def test_labels_that_do_not_divide_among_the_classes_are_told(root: Path) -> None:
    assert load(config_of(root)).remarks == ()
    remarks = load(config_of(root, labels=7, folders={"unlabelled": None})).remarks
    assert len(remarks) == 1
    assert re.fullmatch(
        r"labels: 7 are not the same number for each class: 3 of (cat|dog|owl), 2 of \w+, \w+", remarks[0]
    )


def test_labels_kept_back_beside_an_unlabelled_folder_are_told(root: Path) -> None:
    (remark,) = load(config_of(root, labels=6)).remarks
    assert remark.startswith("labels: 6 leaves 12 of 18 labelled images without their label")


def test_what_was_found_out_is_a_file_that_a_person_can_read(root: Path) -> None:
    load(config_of(root))
    (about,) = (root.parent / "data").rglob("about.json")
    assert json.loads(about.read_text())["class_names"] == list(CLASSES)
    assert np.load(about.parent / "train.npy").shape == (28, 3, PX, PX)
