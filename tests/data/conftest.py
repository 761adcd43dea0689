"""Fixtures that write and check images with a temporary cache."""

import pytest
from make_images import LIMIT

from kerastl.data import CheckedImages, Collection, Record, check_images


@pytest.fixture
def checking(tmp_path):
    """Return a function that writes files of one class and checks them. Keyword arguments are passed to the check."""

    def check(contents: dict[str, bytes], **options) -> CheckedImages:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        records = []
        for name, content in contents.items():
            (root / name).write_bytes(content)
            records.append(Record(name, root / name, "a"))
        collection = Collection(root, ("a",), tuple(records))
        defaults = {
            "max_pixels": LIMIT, "cache_dir": tmp_path / "cache",
            "converted_dir": tmp_path / "converted", "max_unreadable_fraction": 1.0,
        }  # fmt: skip
        return check_images(collection, **(defaults | options))

    return check


@pytest.fixture
def checking_again(tmp_path):
    """Return a function that checks the same files again."""

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
