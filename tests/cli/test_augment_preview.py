"""`kerastl augment preview`, on small folders of generated images."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl import registry
from kerastl.augment import build_policy, named_policy
from kerastl.cli import main
from kerastl.data import seeds_for
from kerastl.recipe import find
from kerastl.runs import write_csv
from kerastl.workflows.augment_preview import select_images
from kerastl.workflows.check_recipe import check_recipe

HOSTILE = "<script>alert(1)<b> & $x$ 花 'q'"
SIZE_PX = 32
EACH = 6


def draw(folder, classes, each=EACH, seed=11):
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            levels = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
            Image.fromarray(levels).save(folder / name / f"p{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path):
    return draw(tmp_path / "photos", ["cat", HOSTILE])


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def sets_of(folder, *sets):
    plain = (f"data.reader.path={folder}", f"data.image_size_px={SIZE_PX}", *sets)
    return [word for setting in plain for word in ("--set", setting)]


CONTRAST = "augment=[{name: random_contrast, max_fraction: 0.2}]"


def call(capsys, folder, *words, sets=("augment=light",)):
    with pytest.raises(SystemExit) as left:
        main(["augment", "preview", "folder-classifier", *sets_of(folder, *sets), *words])
    out, err = capsys.readouterr()
    return left.value.code, out, err


class Page(HTMLParser):
    """What a browser sees: text, tags, and images by block."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.blocks, self.title = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            url = dict(attrs)["src"].removeprefix("data:image/png;base64,")
            image = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))
            self.blocks.setdefault(self.title, []).append(image)

    def handle_data(self, data):
        self.text.append(data)
        if self.tags[-1:] == ["h2"] and data.strip():
            self.title = data.strip()


def callback_states(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_a_good_call_writes_a_page_and_a_image_and_touches_no_data(capsys, photos):
    before = callback_states(photos)
    mixing = "augment={policy: light, mixing: [mix_up]}"
    code, out, err = call(capsys, photos, "--images", "2", "--samples", "2", sets=[mixing])
    assert (code, err) == (0, "Reading the images\n")
    assert out.splitlines()[0] == "Page:  preview-folder-classifier/preview.html"
    folder = Path("preview-folder-classifier")
    assert sorted(path.name for path in folder.iterdir()) == ["preview.html", "preview.png"]
    assert callback_states(photos) == before
    page = Page((folder / "preview.html").read_text())
    names = [name for name, _ in named_policy("light")]
    assert list(page.blocks) == [*names, "all operations", "mix_up"]
    assert len(page.blocks["random_rotation"]) == 2 * (1 + 2 + 2)
    assert "-5 deg (clockwise)" in page.text
    assert "as confidential as the data" in " ".join(page.text)
    with Image.open(folder / "preview.png") as sheet:
        assert sheet.height > 2 * 7 * 112


def test_a_hostile_class_is_text(capsys, photos):
    code, _, _ = call(capsys, photos, "--samples", "1", "--operation", "random_zoom")
    assert code == 0
    text = Path("preview-folder-classifier/preview.html").read_text()
    page = Page(text)
    assert "epoch 1" not in text
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert HOSTILE in page.text
    assert not re.search(r"(?:src|href)=.(?!data:image/png)", text)


@pytest.mark.slow
def test_the_images_under_all_operations_are_those_of_the_first_epochs(capsys, photos):
    code, _, _ = call(capsys, photos, "--images", "3", "--samples", "2")
    assert code == 0
    page = Page(Path("preview-folder-classifier/preview.html").read_text())
    assert "sample 1 is the image used for training in epoch 1" in " ".join(page.text)
    shown = np.stack(page.blocks["all operations"]).reshape(3, 3, SIZE_PX, SIZE_PX, 3)
    recipe = check_recipe(find("folder-classifier"), sets_of(photos, "augment=light")[1::2])
    # Every training image as each epoch sees it, from the recipe's seed alone.
    paths = [text for text in page.text if text.endswith(".png")][:3]
    training = training_images(recipe, photos)
    policy = build_policy(named_policy("light"), image_size_px=SIZE_PX)
    for row, path in enumerate(paths):
        index = training.index(path)
        with Image.open(photos / path) as opened:
            image = np.asarray(opened, np.float32)[None]
        assert (shown[row, 0] == image[0]).all()
        for epoch in range(2):
            seen = policy(image, seeds_for(recipe.seed, epoch, np.array([index], np.int64)))
            assert np.abs(shown[row, 1 + epoch] - seen.numpy()[0]).max() <= 0.51


def training_images(recipe, folder):
    from kerastl import data

    collection = registry.module("reader", "folder").read(recipe.data.reader.options)
    split = recipe.data.split
    divided = data.split(
        collection, val_fraction=split.val_fraction, test_fraction=split.test_fraction,
        seed=recipe.seed, allow_rare=False,
    )  # fmt: skip
    return [record.path for record in divided.records if record.split == "train"]


def test_the_output_depends_only_on_the_seed(capsys, photos):
    words = ("--samples", "1", "--images", "2")
    for out, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert call(capsys, photos, *words, "--out", out, "--seed", seed, sets=[CONTRAST])[0] == 0
    first, again, other = (Path(name, "preview.html").read_bytes() for name in "abc")
    assert first == again != other
    assert Path("a/preview.png").read_bytes() == Path("b/preview.png").read_bytes()


def test_nothing_is_overwritten(capsys, photos):
    words = ("--samples", "0", "--images", "1")
    for name in ("preview-folder-classifier", "preview-folder-classifier-2"):
        assert call(capsys, photos, *words, sets=[CONTRAST])[0] == 0
        assert Path(name, "preview.html").is_file()
    page = Path("preview-folder-classifier/preview.html")
    code, out, err = call(capsys, photos, *words, "--out", str(page.parent), sets=[CONTRAST])
    assert (code, out) == (1, "")
    assert "--out" in err


def test_nothing_is_written_among_the_data(capsys, photos, monkeypatch):
    before = callback_states(photos)
    code, _, err = call(capsys, photos, "--out", str(photos / "new"))
    assert code == 1
    assert str(photos) in err
    monkeypatch.chdir(photos)
    assert call(capsys, photos)[0] == 1
    assert callback_states(photos) == before


def test_the_folder_of_a_table_may_contain_the_preview(capsys, photos, monkeypatch):
    paths = [path.relative_to(photos.parent) for path in sorted(photos.rglob("*.png"))]
    write_csv(photos.parent / "labels.csv", ("path", "label"), [(path, path.parts[1]) for path in paths])
    monkeypatch.chdir(photos.parent)
    words = ["--data", "labels.csv", "--set", CONTRAST, "--set", "data.image_size_px=32", "--samples", "0"]
    with pytest.raises(SystemExit) as left:
        main(["augment", "preview", "folder-classifier", *words, "--out", "new"])
    assert (left.value.code, Path("new/preview.html").is_file()) == (0, True), capsys.readouterr().err


def test_a_recipe_without_operations_states_what_to_type(capsys, photos):
    code, out, err = call(capsys, photos, sets=["augment=none"])
    assert (code, out) == (1, "")
    assert "--set augment=light" in err
    assert list(Path().iterdir()) == []


def test_an_operation_that_the_recipe_lacks_gets_the_nearest(capsys, photos):
    code, _, err = call(capsys, photos, "--operation", "random_rotatoin")
    assert code == 1
    assert "'random_rotatoin'" in err
    assert "'random_rotation'?" in err


def test_invalid_recipes_and_missing_data_are_reported_as_elsewhere(capsys, tmp_path):
    code, _, err = call(capsys, tmp_path / "nowhere")
    assert code == 1
    assert "nowhere" in err
    code, _, err = call(capsys, tmp_path, sets=["augment=mediun"])
    assert code == 1
    assert "'medium'?" in err


def test_only_images_of_the_training_split_are_shown(capsys, tmp_path):
    folder = tmp_path / "divided"
    for seed, split in enumerate(("train", "val", "test")):
        draw(folder / split, ["cat", "dog"], each=3, seed=seed)
    words = ("--samples", "0", "--images", "32")
    assert call(capsys, folder, *words, sets=[CONTRAST])[0] == 0
    page = Page(Path("preview-folder-classifier/preview.html").read_text())
    paths = [text for text in page.text if text.endswith(".png")]
    assert len(paths) == 6
    assert all(path.startswith("train/") for path in paths)


def test_a_tiff_is_shown_and_no_copy_of_it_stays(capsys, photos):
    for file in sorted(photos.rglob("*.png")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".tiff"))
        file.unlink()
    before = callback_states(photos)
    words = ("--samples", "1", "--images", "1")
    assert call(capsys, photos, *words, sets=[CONTRAST])[0] == 0
    assert callback_states(photos) == before
    assert len(list(Path().rglob("*"))) == 3


def test_one_image_has_a_partner_to_be_mixed_with(capsys, photos):
    words = ("--images", "1", "--samples", "2", "--operation", "cut_mix")
    code, _, _ = call(capsys, photos, *words, sets=["augment={policy: light, mixing: [cut_mix]}"])
    assert code == 0
    page = Page(Path("preview-folder-classifier/preview.html").read_text())
    ((original, *mixed),) = page.blocks.values()
    assert len(mixed) == 2
    assert any((image != original).any() for image in mixed)
    assert any("% cat" in text for text in page.text)


class LabeledImage:
    def __init__(self, label):
        self.label = label


def test_images_are_spread_over_the_classes():
    records = [LabeledImage(label) for label in ["a"] * 20 + ["b"] * 2 + ["c"] * 20]
    for seed in range(5):
        indices = select_images(records, ["c", "b", "a"], 9, seed=seed)
        labels = [records[index].label for index in indices]
        assert labels in (["c"] * 4 + ["b"] * 2 + ["a"] * 3, ["c"] * 3 + ["b"] * 2 + ["a"] * 4)
    assert len(select_images(records, ["c", "b", "a"], 99, seed=0)) == len(records)
