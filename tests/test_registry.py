"""Plug-ins of other installed packages."""

import sys

import pytest

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.recipe import Recipe, RecipeText
from kerastl.runs import package_versions
from kerastl.workflows.check_recipe import check_data, check_recipe

OPERATION = """
from kerastl.options import Fraction, StrictModel
class Options(StrictModel):
    apply_probability: Fraction = 1.0
def at_strength(strength): return Options()
def build_layer(options, **kwargs): raise NotImplementedError
"""
PACS = """
format: 1
seed: 5
data: {reader: {name: pacs, path: scans}}
backbone: {name: small_cnn, weights: none}
phases: [{name: all, epochs: 1, trainable: all}]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with one plug-in: its name, entry-point group, name of the plug-in, source code."""

    def install(package, group, name, code):
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")

    def clear():
        for cached in vars(registry).values():
            getattr(cached, "cache_clear", int)()

    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    clear()
    yield install
    for module in set(sys.modules) - modules:
        if getattr(sys.modules[module], "__file__", None) and str(tmp_path) in sys.modules[module].__file__:
            del sys.modules[module]
    clear()


def test_an_installed_operation_is_found_and_its_package_recorded(install):
    install("acme-noise", "kerastl.augmentations", "speckle", OPERATION)
    assert "speckle" in registry.names("operation")
    assert registry.options_of("operation", "speckle")().apply_probability == 1.0
    assert package_versions()["acme-noise"] == "2.5"


def test_an_installed_reader_is_accepted_in_a_recipe(install):
    code = "from kerastl.options import StrictModel\nclass Options(StrictModel):\n    url: str\ndef read(options, *, seed, cache_dir): ...\n"
    install("acme-archive", "kerastl.readers", "pacs", code)
    recipe = Recipe(
        format=1, data={"reader": {"name": "pacs", "url": "loopback"}}, backbone="small_cnn",
        phases=[{"name": "head", "epochs": 1}],
    )  # fmt: skip
    assert recipe.data.reader.options.url == "loopback"


def test_check_reads_the_data_of_an_installed_reader_as_a_run_does(install):
    code = (
        "from kerastl.errors import RequestError\nfrom kerastl.options import StrictModel\n"
        "class Options(StrictModel):\n    path: str\n    columns: str = ''\n    def problems(self): return []\n"
        "def read(options, *, seed, cache_dir): raise RequestError(f'{options.path} is empty, seed {seed}')\n"
    )
    install("acme-archive", "kerastl.readers", "pacs", code)
    recipe = check_recipe(RecipeText("mine", "mine.yaml", PACS), ())
    with pytest.raises(RequestError, match="scans is empty, seed 5"):
        check_data(recipe)


def test_an_installed_family_adds_its_backbones(install):
    code = (
        "from kerastl.models import Backbone\n"
        "BACKBONES = {'acme_net': Backbone(builder='acme_nets.build', pixels='zero_to_one', parameters=1,\n"
        "    blocks=(), reference='Acme', top1_source='', linear_top=False)}\n"
    )
    install("acme-nets", "kerastl.backbones", "acme", code)
    assert "acme_net" in registry.names("backbone")
    assert registry.module("backbone", "acme_net").BACKBONES["acme_net"].reference == "Acme"


def test_an_installed_method_is_found(install):
    install("acme-align", "kerastl.methods", "align", "METHOD = None\ndef build(options): ...\n")
    assert registry.has("adaptation", "align")


@pytest.mark.parametrize(
    ("group", "name", "code", "message"),
    [
        (
            "augmentations",
            "random_flip",
            OPERATION,
            "provides the operation 'random_flip', but kerastl provides one",
        ),
        ("methods", "coral", "", "provides the adaptation method 'coral', but kerastl provides one"),
        ("readers", "web", "import not_installed_package", "cannot be imported: ModuleNotFoundError"),
        ("readers", "web", "raise SystemError('broken')", "cannot be imported: SystemError: broken"),
        ("readers", "web", "", "does not define read."),
        ("augmentations", "speckle", "Options = None", "does not define at_strength or build_layer."),
        (
            "backbones",
            "acme",
            "BACKBONES = {'resnet50': None}",
            "provides the backbone 'resnet50', but kerastl",
        ),
    ],
)
def test_a_wrong_plug_in_is_refused_with_its_package(install, group, name, code, message):
    install("acme-tools", f"kerastl.{group}", name, code)
    kind = next(kind for kind, value in registry.GROUPS.items() if value == f"kerastl.{group}")
    with pytest.raises(RequestError) as error:
        registry.module(kind, "resnet50" if kind == "backbone" else name)
    assert message in str(error.value)
    assert "acme-tools" in str(error.value)


def test_two_packages_with_one_name_are_refused(install):
    for package in ("acme-noise", "other-noise"):
        install(package, "kerastl.augmentations", "speckle", OPERATION)
    with pytest.raises(
        RequestError, match=r"noise provides the operation 'speckle', but .*noise provides one"
    ):
        registry.names("operation")


def test_two_packages_with_one_backbone_are_refused(install):
    for package in ("acme-nets", "other-nets"):
        install(package, "kerastl.backbones", package, "BACKBONES = {'new_net': None}")
    with pytest.raises(RequestError, match=r"nets provides the backbone 'new_net', but .*nets provides one"):
        registry.has("backbone", "new_net")
