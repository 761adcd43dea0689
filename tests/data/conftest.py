"""The check of every image, with a cache and a place for what is converted of the test's own."""

import pytest
from images_drawn import LIMIT

from kerastl.data import CheckedImages, Collection, Record, check_images


@pytest.fixture
def checking(tmp_path):
    """Write contents as images of a class and check them; keyword options go to the check."""

    def check(contents: dict[str, bytes], **options) -> CheckedImages:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        records = []
        for name, content in contents.items():
            (root / name).write_bytes(content)
            records.append(Record(name, root / name, "a"))
        collection = Collection(root, ("a",), tuple(records))
        given = {
            "max_pixels": LIMIT, "cache_dir": tmp_path / "cache",
            "converted_dir": tmp_path / "converted", "max_unreadable_fraction": 1.0,
        }  # fmt: skip
        return check_images(collection, **(given | options))

    return check


@pytest.fixture
def checking_again(tmp_path):
    """Check the same files without writing them anew."""

    def check(first: CheckedImages) -> CheckedImages:
        root = first.collection.root
        names = [record.path for record in first.collection.records]
        names += [path for path, _ in first.quarantined]
        records = tuple(Record(name, root / name, "a") for name in sorted(names))
        return check_images(
            Collection(root, ("a",), records), max_pixels=LIMIT, cache_dir=tmp_path / "cache",
            converted_dir=tmp_path / "converted", max_unreadable_fraction=1.0,
        )  # fmt: skip

    return check
