"""CSV tables of images: what is read, and every way they can be wrong."""

import pickle

import pytest
from images_drawn import colour, write

from kerastl.data import read_table
from kerastl.data.readers.table import Columns
from kerastl.errors import Problems, RequestError


@pytest.fixture
def place(tmp_path):
    for index in range(6):
        write(tmp_path / "images" / f"{index}.png", colour(index))
    return tmp_path


def table(place, text: str, name: str = "table.csv", encoding: str = "utf-8"):
    (place / name).write_bytes(text.encode(encoding))
    return place / name


def rows(*lines: str, header: str = "path,label") -> str:
    return "\n".join([header, *lines]) + "\n"


def test_a_row_is_a_image(place):
    found = read_table(table(place, rows("images/0.png,10", "images/1.png,2")))
    assert found.class_names == ("2", "10")
    assert [(record.path, record.label) for record in found.records] == [
        ("images/0.png", "10"),
        ("images/1.png", "2"),
    ]
    assert found.root == place.resolve()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_byte_order_marks_are_understood(place, delimiter, encoding):
    text = rows("images/0.png,ä", "images/1.png,b").replace(",", delimiter)
    assert set(read_table(table(place, text, encoding=encoding)).class_names) == {"b", "ä"}


def test_columns_are_mapped_by_name(place):
    text = rows("x,images/0.png,cat,p1,A,dev", "x,images/1.png,dog,p2,B,TEST",
                header="id,file,kind,who,where,part")  # fmt: skip
    columns = Columns(path="file", label="kind", split="part", group="who", domain="where")
    first, second = read_table(table(place, text), columns=columns).records
    assert (first.label, first.group, first.domain, first.split) == ("cat", "p1", "A", "val")
    assert (second.label, second.group, second.domain, second.split) == ("dog", "p2", "B", "test")


def test_columns_of_subgroups_come_along_as_they_are_written(place):
    text = rows("images/0.png,a,f,'=1+1", "images/1.png,b,,<b>", header="path,label,sex,../x")
    columns = Columns(subgroups=("sex", "../x"))
    first, second = read_table(table(place, text), columns=columns).records
    assert first.subgroups == (("sex", "f"), ("../x", "=1+1"))
    assert second.subgroups == (("sex", ""), ("../x", "<b>"))


def test_subgroups_change_the_fingerprint_and_none_leave_it(place):
    text = rows("images/0.png,a,f", "images/1.png,b,m", header="path,label,sex")
    plain, other = (read_table(table(place, some)).fingerprint() for some in (text, text.replace(",m", ",f")))
    assert plain == other
    first, second = (
        read_table(table(place, some), columns=Columns(subgroups=("sex",))).fingerprint()
        for some in (text, text.replace(",m", ",f"))
    )
    assert len({plain, first, second}) == 3


def test_a_column_of_subgroups_that_is_not_there_names_those_that_are(place):
    text = rows("images/0.png,a,f", "images/1.png,b,m", header="path,label,sex")
    with pytest.raises(Problems) as caught:
        read_table(table(place, text), columns=Columns(subgroups=("sx", "age")))
    first, second = map(str, caught.value.problems)
    assert "no column 'sx'. Did you mean 'sex'? Columns: path, label, sex." in first
    assert "no column 'age'." in second


def test_columns_of_the_usual_names_are_taken_and_said(place):
    text = rows("images/0.png,a,p1,A", "images/1.png,b,p2,B", header="path,label,patient_id,site")
    found = read_table(table(place, text))
    assert found.records[0].group == "p1"
    assert found.records[1].domain == "B"
    assert any("using column 'patient_id' as group" in note for note in found.notes)


def test_one_table_of_two_sites_is_read_a_site_at_a_time(place):
    text = rows("images/0.png,a,A", "images/1.png,b,B", "images/2.png,a,B", header="path,label,site")
    found = read_table(table(place, text), domains=("B",))
    assert [record.path for record in found.records] == ["images/1.png", "images/2.png"]
    with pytest.raises(Problems, match="'C'. Known: 'A', 'B'"):
        read_table(table(place, text), domains=("C",))


def test_an_empty_label_is_unlabelled(place):
    found = read_table(table(place, rows("images/0.png,", "images/1.png,a", "images/2.png,b")))
    assert found.records[0].label is None
    assert any("1 unlabeled image" in note for note in found.notes)


def test_a_table_without_labels_is_unlabelled(place):
    assert read_table(table(place, rows("images/0.png", header="path"))).class_names == ()


def test_everything_wrong_is_told_at_once_with_its_line(place):
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
        read_table(table(place, text))
    lines = [problem.where for problem in error.value.problems]
    assert lines == ["line 3", "line 5", "line 8"]
    assert "does not exist" in str(error.value)
    assert "is already on line 2" in str(error.value)
    assert "got 'tset'" in str(error.value)


def test_an_unknown_column_gets_the_nearest_name(place):
    with pytest.raises(Problems, match=r"columns.label: the table has no column 'lable'. Did you mean 'label'"):
        read_table(table(place, rows("images/0.png,a")), columns=Columns(label="lable"))


def test_rows_of_another_length_than_the_header_are_refused(place):
    with pytest.raises(Problems, match="line 3: has 3 cells, but the header has 2"):
        read_table(table(place, rows("images/0.png,a", "images/1.png,b,c")))


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png"])
def test_a_relative_path_may_not_lead_out_of_the_root(place, path):
    write(place.parent / "outside.png", colour(1))
    with pytest.raises(Problems, match="is outside of"):
        read_table(table(place, rows(f"{path},a", "images/0.png,b")))


def test_an_absolute_path_must_be_a_file(place):
    good = place / "images" / "3.png"
    found = read_table(table(place, rows(f"{good},a", "images/0.png,b")))
    assert found.records[0].path == "images/3.png"
    with pytest.raises(Problems, match="does not exist"):
        read_table(table(place, rows("/etc,a", "images/0.png,b")))


def test_paths_may_be_relative_to_another_root(place):
    found = read_table(table(place, rows("0.png,a", "1.png,b")), root=place / "images")
    assert [record.path for record in found.records] == ["0.png", "1.png"]


def test_a_formula_guard_is_taken_off_again(place):
    found = read_table(table(place, rows("images/0.png,'=1+1", "images/1.png,b")))
    assert "=1+1" in found.class_names


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
def test_tables_that_cannot_be_used_are_refused(place, content, message):
    (place / "bad.csv").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read_table(place / "bad.csv")


def test_a_missing_table_is_refused_by_its_full_path(place):
    with pytest.raises(Problems, match=str(place / "none.csv")):
        read_table(place / "none.csv")


def test_a_file_outside_is_read_under_its_whole_path_and_this_is_said(place, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("elsewhere") / "e.png", colour(1))
    found = read_table(table(place, rows(f"{outside},a", "images/0.png,b")))
    assert found.records[0].path == str(outside)
    assert found.records[0].file == outside
    assert any("1 image outside" in note for note in found.notes)


def test_a_quote_that_never_closes_is_refused_and_swallows_no_rows(place):
    with pytest.raises(RequestError, match="Cannot read the table"):
        read_table(table(place, 'path,label\n"images/0.png,a\nimages/1.png,b\n'))


def test_more_faults_than_are_listed_are_all_counted(place):
    bad = table(place, rows(*(f"gone{number}.png,a" for number in range(60))))
    with pytest.raises(Problems) as error:
        read_table(bad)
    assert len(error.value.problems) == 60
    first, *listed, more, last = str(error.value).split("\n")
    assert first.endswith("has 60 problems.")
    assert len(listed) == 20
    assert more.strip() == "... and 40 more."
    assert last == "Nothing was run."
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
