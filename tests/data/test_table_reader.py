"""The table reader: valid tables, and all problems of invalid ones."""

import pickle
import sys

import pytest
from make_images import uniform_image, write

from kerastl.data import read_table
from kerastl.data.readers.table import Columns
from kerastl.errors import Problems, RequestError
from kerastl.runs import write_csv


@pytest.fixture
def root(tmp_path):
    for index in range(6):
        write(tmp_path / "images" / f"{index}.png", uniform_image(index))
    return tmp_path


def table(root, text: str, name: str = "table.csv", encoding: str = "utf-8"):
    (root / name).write_bytes(text.encode(encoding))
    return root / name


def rows(*lines: str, header: str = "path,label") -> str:
    return "\n".join([header, *lines]) + "\n"


def test_each_row_is_an_image(root):
    collection = read_table(table(root, rows("images/0.png,10", "images/1.png,2")))
    assert collection.class_names == ("2", "10")
    assert [(record.path, record.label) for record in collection.records] == [
        ("images/0.png", "10"),
        ("images/1.png", "2"),
    ]
    assert collection.root == root.resolve()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_byte_order_marks_are_supported(root, delimiter, encoding):
    text = rows("images/0.png,ä", "images/1.png,b").replace(",", delimiter)
    assert set(read_table(table(root, text, encoding=encoding)).class_names) == {"b", "ä"}


def test_parquet_table_gives_the_records_of_the_same_csv_table(root):
    import pyarrow
    from pyarrow import parquet

    columns = {"path": ["images/0.png", "images/1.png"], "label": [3, None], "sex": ["f", "m"]}
    parquet.write_table(pyarrow.table(columns), root / "table.parquet")
    csv_table = table(root, rows("images/0.png,3,f", "images/1.png,,m", header="path,label,sex"))
    options = {"columns": Columns(subgroups=("sex",))}
    assert read_table(root / "table.parquet", **options).records == read_table(csv_table, **options).records


def test_damaged_parquet_table_is_rejected(root):
    with pytest.raises(RequestError, match=r"Cannot read the table .*table\.parquet"):
        read_table(table(root, "no Parquet", "table.parquet"))


def test_parquet_without_pyarrow_names_the_extra(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"pip install 'kerastl\[parquet\]'"):
        read_table(table(root, "", "table.parquet"))


def test_columns_are_mapped_by_name(root):
    text = rows("x,images/0.png,cat,p1,A,dev", "x,images/1.png,dog,p2,B,TEST",
                header="id,file,kind,who,where,part")  # fmt: skip
    columns = Columns(path="file", label="kind", split="part", group="who", domain="where")
    first, second = read_table(table(root, text), columns=columns).records
    assert (first.label, first.group, first.domain, first.split) == ("cat", "p1", "A", "val")
    assert (second.label, second.group, second.domain, second.split) == ("dog", "p2", "B", "test")


def test_subgroup_columns_are_kept_as_text(root):
    text = rows("images/0.png,a,f,'=1+1", "images/1.png,b,,<b>", header="path,label,sex,../x")
    columns = Columns(subgroups=("sex", "../x"))
    first, second = read_table(table(root, text), columns=columns).records
    assert first.subgroups == (("sex", "f"), ("../x", "=1+1"))
    assert second.subgroups == (("sex", ""), ("../x", "<b>"))


def test_subgroups_change_the_fingerprint(root):
    text = rows("images/0.png,a,f", "images/1.png,b,m", header="path,label,sex")
    plain, other = (read_table(table(root, some)).fingerprint() for some in (text, text.replace(",m", ",f")))
    assert plain == other
    first, second = (
        read_table(table(root, some), columns=Columns(subgroups=("sex",))).fingerprint()
        for some in (text, text.replace(",m", ",f"))
    )
    assert len({plain, first, second}) == 3


def test_missing_subgroup_column_is_reported_with_all_columns(root):
    text = rows("images/0.png,a,f", "images/1.png,b,m", header="path,label,sex")
    with pytest.raises(Problems) as caught:
        read_table(table(root, text), columns=Columns(subgroups=("lable", "age")))
    first, second = map(str, caught.value.problems)
    assert "no column 'lable'. Did you mean 'label'? Columns: path, label, sex." in first
    assert "no column 'age'." in second


def test_default_column_names_are_used_with_a_note(root):
    text = rows("images/0.png,a,p1,A", "images/1.png,b,p2,B", header="path,label,patient_id,site")
    collection = read_table(table(root, text))
    assert collection.records[0].group == "p1"
    assert collection.records[1].domain == "B"
    assert any("using column 'patient_id' as group" in note for note in collection.notes)


def test_domains_select_the_rows_of_a_site(root):
    text = rows("images/0.png,a,A", "images/1.png,b,B", "images/2.png,a,B", header="path,label,site")
    collection = read_table(table(root, text), domains=("B",))
    assert [record.path for record in collection.records] == ["images/1.png", "images/2.png"]
    with pytest.raises(Problems, match=r"'C'\. Known: 'A', 'B'"):
        read_table(table(root, text), domains=("C",))


def test_empty_label_is_unlabeled(root):
    collection = read_table(table(root, rows("images/0.png,", "images/1.png,a", "images/2.png,b")))
    assert collection.records[0].label is None
    assert any("1 unlabeled image" in note for note in collection.notes)


def test_table_without_label_column_is_unlabeled(root):
    assert read_table(table(root, rows("images/0.png", header="path"))).class_names == ()


def test_all_problems_are_reported_together_with_line_numbers(root):
    text = rows(
        "images/0.png,a,train",
        "images/none.png,a,train",
        "",
        "images/0.png,b,train",
        '"images/1.png","b\nc",test',
        "images/2.png,b,tset",
        header="path,label,split",
    )
    with pytest.raises(Problems) as error:
        read_table(table(root, text))
    lines = [problem.where for problem in error.value.problems]
    assert lines == ["line 3", "line 5", "line 8"]
    assert "does not exist" in str(error.value)
    assert "is already listed (line 2)" in str(error.value)
    assert "got 'tset'" in str(error.value)


def test_unknown_column_suggests_the_nearest_name(root):
    with pytest.raises(
        Problems, match=r"columns.label: the table has no column 'lable'. Did you mean 'label'"
    ):
        read_table(table(root, rows("images/0.png,a")), columns=Columns(label="lable"))


def test_rows_of_wrong_length_are_rejected(root):
    with pytest.raises(Problems, match="line 3: has 3 cells, but the header has 2"):
        read_table(table(root, rows("images/0.png,a", "images/1.png,b,c")))


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png"])
def test_relative_path_outside_the_root_is_rejected(root, path):
    write(root.parent / "outside.png", uniform_image(1))
    with pytest.raises(Problems, match="is outside of"):
        read_table(table(root, rows(f"{path},a", "images/0.png,b")))


def test_absolute_path_must_be_an_existing_file(root):
    good = root / "images" / "3.png"
    collection = read_table(table(root, rows(f"{good},a", "images/0.png,b")))
    assert collection.records[0].path == "images/3.png"
    with pytest.raises(Problems, match="does not exist"):
        read_table(table(root, rows("/etc,a", "images/0.png,b")))


def test_paths_can_be_relative_to_another_root(root):
    collection = read_table(table(root, rows("0.png,a", "1.png,b")), root=root / "images")
    assert [record.path for record in collection.records] == ["0.png", "1.png"]


def test_quote_before_a_formula_is_removed(root):
    collection = read_table(table(root, rows("images/0.png,'=1+1", "images/1.png,b")))
    assert "=1+1" in collection.class_names


def test_class_names_of_a_written_table_are_read_unchanged(root):
    names = ["'quoted", "''twice", "@sign", "'=1+1", "don't"]
    write_csv(
        root / "table.csv", ("path", "label"), [(f"images/{row}.png", name) for row, name in enumerate(names)]
    )
    assert [record.label for record in read_table(root / "table.csv").records] == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\nimages/0.png,ä\n".encode("latin-1"), "not UTF-8"),
        (b"path,label\n", "has no rows"),
        (b"", "has no rows"),
        (b"path,path\nimages/0.png,a\n", "several columns"),
        (b"path,label\nimages/0.png,a|b\nimages/1.png,c\n", "several labels"),
        (b"path,label\n,a\nimages/1.png,c\n", "path is empty"),
    ],
)
def test_invalid_tables_are_rejected(root, content, message):
    (root / "bad.csv").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read_table(root / "bad.csv")


def test_missing_table_is_reported_with_its_full_path(root):
    with pytest.raises(Problems, match=str(root / "none.csv")):
        read_table(root / "none.csv")


def test_file_outside_the_root_keeps_its_absolute_path_with_a_note(root, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("elsewhere") / "e.png", uniform_image(1))
    collection = read_table(table(root, rows(f"{outside},a", "images/0.png,b")))
    assert collection.records[0].path == str(outside)
    assert collection.records[0].file == outside
    assert any("1 image outside" in note for note in collection.notes)


def test_unclosed_quote_is_rejected(root):
    with pytest.raises(RequestError, match="Cannot read the table"):
        read_table(table(root, 'path,label\n"images/0.png,a\nimages/1.png,b\n'))


def test_problems_beyond_the_listed_ones_are_counted(root):
    bad = table(root, rows(*(f"gone{number}.png,a" for number in range(60))))
    with pytest.raises(Problems) as error:
        read_table(bad)
    assert len(error.value.problems) == 60
    first, *listed, more, last = str(error.value).split("\n")
    assert first.endswith("has 60 problems.")
    assert len(listed) == 20
    assert more.strip() == "... and 40 more."
    assert last == "Nothing was run."
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
