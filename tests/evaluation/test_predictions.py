import json

import numpy as np
import pytest
from predictions_drawn import made

from kerastl.errors import RequestError
from kerastl.evaluation import Predictions, read_predictions, score, write_predictions


def test_the_table_gives_the_probabilities_back_exactly(tmp_path):
    one = made(classes=3, groups=30)
    write_predictions(tmp_path / "p.csv", one)
    back = read_predictions(tmp_path / "p.csv")
    assert back.paths == one.paths
    assert back.groups == one.groups
    np.testing.assert_array_equal(back.labels, one.labels)
    np.testing.assert_array_equal(back.probabilities, one.probabilities)
    assert json.dumps(score(back)) == json.dumps(score(one))
    part = range(10, 20)
    np.testing.assert_array_equal(back.take(part).probabilities, one.take(part).probabilities)
    write_predictions(tmp_path / "again.csv", back)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no table of predictions"),
        ("", "no table of predictions"),
        ("{head}\nx,dog,cat,,,,0.5,0.5\n", "row 1: 'dog'"),
        ("{head}\nx,cat,cat,,,,nan,0.5\n", "row 1: the probability nan"),
    ],
)
def test_a_broken_table_is_refused_with_the_place(tmp_path, text, said):
    head = "path,label,predicted,split,group,domain,prob_cat,prob_cow"
    (tmp_path / "p.csv").write_text(text.format(head=head))
    with pytest.raises(RequestError, match=said):
        read_predictions(tmp_path / "p.csv")


def test_a_hostile_path_is_no_formula_in_the_table(tmp_path):
    one = made(count=2, groups=2)
    hostile = Predictions(
        ("=cmd|'/c calc'!A1", "b.png"),
        one.labels,
        one.logits,
        one.class_names,
        one.splits,
        one.groups,
        one.domains,
    )
    write_predictions(tmp_path / "p.csv", hostile)
    assert "\n'=cmd" in (tmp_path / "p.csv").read_text()
    assert read_predictions(tmp_path / "p.csv").paths == hostile.paths
