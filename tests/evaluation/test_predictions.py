import dataclasses
import json

import numpy as np
import pytest
from synthetic_predictions import make_predictions

from kerastl.errors import RequestError
from kerastl.evaluation import Predictions, read_predictions, score, write_predictions


def test_table_preserves_probabilities_exactly(tmp_path):
    predictions = dataclasses.replace(make_predictions(classes=3, groups=30), temperature=1.7)
    write_predictions(tmp_path / "p.csv", predictions)
    back = read_predictions(tmp_path / "p.csv")
    assert back.paths == predictions.paths
    assert back.groups == predictions.groups
    np.testing.assert_array_equal(back.labels, predictions.labels)
    np.testing.assert_array_equal(back.probabilities, predictions.probabilities)
    np.testing.assert_array_equal(back.logits, predictions.logits)
    np.testing.assert_array_equal(back.uncalibrated, predictions.uncalibrated)
    assert np.abs(back.probabilities - back.uncalibrated).max() > 0.05
    assert json.dumps(score(back)) == json.dumps(score(predictions))
    part = range(10, 20)
    np.testing.assert_array_equal(back.take(part).probabilities, predictions.take(part).probabilities)
    write_predictions(tmp_path / "again.csv", back)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is not a table of predictions"),
        ("", "is not a table of predictions"),
        (
            "path,label,predicted,split,group,domain,prob_cat\nx,,cat,,,,1.0\n",
            "Required columns: .*, logit_<class>",
        ),
        ("{head}\nx,dog,cat,,,,0.5,0.5,0,0\n", "row 1: invalid value 'dog'"),
        ("{head}\nx,cat,cat,,,,nan,0.5,0,0\n", "row 1: invalid value nan"),
        ("{head}\nx,cat,cat,,,,0.5,0.5,0,inf\n", "row 1: invalid value inf, which is not a finite logit"),
    ],
)
def test_invalid_table_is_rejected_with_the_row(tmp_path, text, message):
    head = "path,label,predicted,split,group,domain,prob_cat,prob_cow,logit_cat,logit_cow"
    (tmp_path / "p.csv").write_text(text.format(head=head))
    with pytest.raises(RequestError, match=message):
        read_predictions(tmp_path / "p.csv")


def test_formula_in_a_path_is_quoted(tmp_path):
    predictions = make_predictions(count=2, groups=2)
    hostile = Predictions(
        ("=cmd|'/c calc'!A1", "b.png"),
        predictions.labels,
        predictions.logits,
        predictions.class_names,
        predictions.splits,
        predictions.groups,
        predictions.domains,
    )
    write_predictions(tmp_path / "p.csv", hostile)
    assert "\n'=cmd" in (tmp_path / "p.csv").read_text()
    assert read_predictions(tmp_path / "p.csv").paths == hostile.paths
