"""Fixtures for every test: the optional folder of real weights and images. Which tests share a worker."""

import gc
import os
import zipfile
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")
# One worker per core: threads of NumPy and scikit-learn would spin while they wait for a core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
# The garbage collector would visit TensorFlow and all test modules again and again: a tenth of the CPU time of a worker.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among the modules and tests, which live as long as the process."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker. Start with the longest: real images, then groups that share a run or a network."""
    groups = {item: item.get_closest_marker("xdist_group") for item in items}
    for item, group in groups.items():
        if group is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: (item.path.parent.name != "real", groups[item] is None))


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's own cache out of the tests, in this process and in those it starts."""
    os.environ["KERASTL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and images; a test that wants it skips where it is absent."""
    folder = Path(os.environ.get("KERASTL_TEST_ASSETS", ROOT.parent / "shared" / "assets"))
    if not folder.is_dir():
        message = f"no test assets at {folder}; set KERASTL_TEST_ASSETS"
        if os.environ.get("KERASTL_REQUIRE_ASSETS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder.resolve()


@pytest.fixture
def keras_home(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KERAS_HOME with real ImageNet weights, read-only."""
    monkeypatch.setenv("KERAS_HOME", str(assets / "keras"))
    return assets / "keras"


def _unzipped(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def cxr_folder(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """243 chest X-rays (doi 10.25835/0090041) with labels.csv."""
    return _unzipped(assets / "data" / "hannover_cxr.zip", tmp_path_factory.mktemp("cxr"))


@pytest.fixture(scope="session")
def photos(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photographs of known things."""
    return _unzipped(assets / "data" / "coral_photos.zip", tmp_path_factory.mktemp("photos"))
