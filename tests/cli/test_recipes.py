import json
import subprocess
import sys
from pathlib import Path

import pytest

from kerastl.cli import main
from kerastl.errors import RequestError
from kerastl.recipe import catalog, check, write

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
HEAVY = ("tensorflow", "keras", "keras_cv", "numpy", "matplotlib", "sklearn", "scipy", "pandas")
# The settings that a user must provide before a shipped recipe can run.
NEEDED = {
    "quickstart": [],
    "folder-classifier": ["data.reader.path=photos"],
    "feature-extraction": ["data.reader.path=photos"],
    "hospital-adaptation": ["data.reader.path=a.csv", "target.reader.path=b.csv"],
    "hospital-unlabelled": ["data.reader.path=a.csv", "target.reader.path=b.csv"],
    "scanner-style": ["data.reader.path=a.csv", "target.reader.path=b.csv"],
    "hospital-source-free": ["source.model=a-model", "target.reader.path=b.csv"],
    "tfds-classifier": ["data.reader.dataset=tf_flowers"],
}


def call(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_every_recipe_in_the_repository_is_shipped():
    assert RECIPES
    assert {path.stem for path in RECIPES} == set(catalog.names()) == set(NEEDED)


@pytest.mark.parametrize("name", NEEDED)
def test_a_shipped_recipe_is_valid_once_it_has_its_data(name):
    recipe = check(catalog.find(name).text, name=name, sets=NEEDED[name])
    text = write(recipe)
    assert recipe.seed == 7
    assert "seed: 7" in catalog.find(name).text
    assert "kerastl run" in catalog.find(name).text
    file = catalog.find(name)
    assert file.purpose.endswith((".", ":"))
    assert text.startswith("format: 1\n")


@pytest.mark.parametrize(("labels", "adapts"), [("none", True), ("few", False), ("all", False)])
def test_hospital_adaptation_accepts_any_labels_with_one_set(labels, adapts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table in ("a", "b"):
        images = [f"{table}{number}.png" for number in range(20)]
        for image in images:
            (tmp_path / image).touch()
        rows = [f"{image},{'dark' if number % 2 else 'light'}" for number, image in enumerate(images)]
        (tmp_path / f"{table}.csv").write_text("\n".join(["path,label", *rows]))
    sets = [*NEEDED["hospital-adaptation"], f"target.labels={labels}"]
    words = [word for setting in sets for word in ("--set", setting)]
    code, out, err = call(capsys, "check", "hospital-adaptation", *words)
    assert (code, err) == (0, "")
    assert ("adapts by adabn, coral, mcc and dann" in out) == adapts


@pytest.mark.parametrize("name", [name for name, sets in NEEDED.items() if sets])
def test_a_shipped_recipe_without_data_reports_only_the_missing_keys(name, capsys):
    code, out, err = call(capsys, "check", name)
    assert (code, out) == (1, "")
    wanted = [text.partition("=")[0] for text in NEEDED[name]]
    lines = err.splitlines()[1:-1]
    assert all(f"'{key.rpartition('.')[2]}'" in line for key, line in zip(wanted, lines, strict=True))


def test_ls_lists_every_recipe_with_its_purpose(capsys):
    code, out, _ = call(capsys, "ls")
    assert code == 0
    assert all(f"{name} " in out for name in NEEDED)
    code, out, _ = call(capsys, "ls", "--json")
    assert {entry["name"] for entry in json.loads(out)} == set(NEEDED)
    assert all(entry["purpose"] for entry in json.loads(out))


def test_show_prints_the_unchanged_file(capsys):
    code, out, _ = call(capsys, "show", "quickstart")
    assert code == 0
    assert out == next(path for path in RECIPES if path.stem == "quickstart").read_text()


def test_an_unknown_recipe_gets_the_nearest_name(capsys):
    code, _, err = call(capsys, "show", "folder-classifer")
    assert code == 1
    assert "Did you mean 'folder-classifier'?" in err


def test_cp_copies_and_never_overwrites(capsys, tmp_path):
    copy = tmp_path / "mine.yaml"
    assert call(capsys, "cp", "quickstart", str(copy))[0] == 0
    copy.write_text("mine")
    code, _, err = call(capsys, "cp", "quickstart", str(copy))
    assert code == 1
    assert str(copy) in err
    assert copy.read_text() == "mine"
    assert call(capsys, "cp", "quickstart", str(tmp_path))[0] == 0
    assert (tmp_path / "quickstart.yaml").read_text() == catalog.find("quickstart").text
    assert call(capsys, "cp", "quickstart", str(tmp_path / "no" / "x.yaml"))[0] == 1


def test_check_summarizes_the_run_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "my dir" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "my dir" / name / f"{number}.png").touch()
    code, out, err = call(capsys, "check", "folder-classifier", "--data", "my dir")
    assert (code, err) == (0, "")
    assert out.startswith("folder-classifier is valid: mobilenet_v2 (ImageNet weights) is trained on")
    assert "kerastl run folder-classifier --data 'my dir'" in out


def test_check_prints_json(capsys, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(catalog.find("quickstart").text.replace("seed: 7", "sed: 7"))
    code, out, _ = call(capsys, "check", str(file), "--json")
    report = json.loads(out)
    assert code == 1
    assert "'seed'?" in report["problems"][0]["message"]
    code, out, _ = call(capsys, "check", "quickstart", "--json")
    assert code == 0
    assert json.loads(out)["recipe"]["backbone"]["name"] == "small_cnn"


@pytest.mark.parametrize("make", ["folder", "bytes", "missing", "nul"])
def test_a_file_that_is_not_a_recipe_gives_a_clear_error(make, capsys, tmp_path):
    path = tmp_path / "x.yaml"
    if make == "folder":
        path.mkdir()
    if make == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
    code, _, err = call(capsys, "check", "a\0b" if make == "nul" else str(path))
    assert code == 1
    assert err.startswith("Error: ")
    assert "Traceback" not in err


def test_the_light_commands_load_nothing_heavy():
    code = (
        "import sys\n"
        "from kerastl.cli import main\n"
        "for words in (['--help'], ['ls'], ['show', 'quickstart'], ['check', 'quickstart']):\n"
        "    assert words[0] == 'check' or 'pydantic' not in sys.modules, words\n"
        "    try: main(words)\n"
        "    except SystemExit as left: assert not left.code, words\n"
        f"loaded = {{*{HEAVY!r}, 'kerastl.runs.schemas'}} & set(sys.modules)\n"
        "plugins = ('kerastl.adaptation.methods.', 'kerastl.models.families.')\n"
        "methods = [name for name in sys.modules if name.startswith(plugins) and 'small_cnn' not in name]\n"
        "print(sorted(loaded), methods, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[] []"


def test_a_run_folder_instead_of_a_recipe_is_refused_with_the_path_of_its_recipe(tmp_path):
    with pytest.raises(RequestError, match=f"kerastl run folder-classifier --data {tmp_path}"):
        catalog.find(str(tmp_path))
    (tmp_path / "recipe.resolved.yaml").write_text("format: 1")
    with pytest.raises(RequestError, match=r"recipe\.resolved\.yaml"):
        catalog.find(str(tmp_path))
