import numpy as np
import pytest
from hospitals_drawn import source_only

from kerastl.errors import RequestError
from kerastl.selection import Evidence, Mixed, Outputs

EVIDENCE, TRUTH = source_only(0)
TRAIN, VAL, TARGET = EVIDENCE.source_train, EVIDENCE.source_val, EVIDENCE.target
NAMES = EVIDENCE.class_names


def test_what_cannot_be_is_refused_in_words():
    features, logits = TARGET.features, TARGET.logits
    broken = logits.copy()
    broken[3, 0] = np.nan
    for words, wrong in {
        "300 features, 299 logits": lambda: Outputs(features, logits[1:]),
        "image 3 are NaN": lambda: Outputs(features, broken),
        r"must be \[images, numbers\]": lambda: Outputs(features[0], logits),
        "got int64": lambda: Outputs(features, TRUTH[:, None]),
        "whole numbers": lambda: Outputs(features, logits, TRUTH.astype(float)),
        "2 groups": lambda: Outputs(features, logits, None, ("a", "b")),
        "There is no image": lambda: Outputs(features[:0], logits[:0]),
        "must not see": lambda: Evidence(TRAIN, VAL, Outputs(features, logits, TRUTH), NAMES),
        "source_val: labels are known": lambda: Evidence(TRAIN, TARGET, TARGET, NAMES),
        "for 3 class names": lambda: Evidence(TRAIN, VAL, TARGET, ("a", "b", "c")),
        "two or more that differ": lambda: Evidence(TRAIN, VAL, TARGET, ("a", "a")),
        "equally wide": lambda: Evidence(TRAIN, VAL, Outputs(features[:, 1:], logits), NAMES),
        "class 'class 1' has no image": lambda: Evidence(
            TRAIN, Outputs(VAL.features, VAL.logits, 0 * VAL.labels), TARGET, NAMES
        ),
        "labels must be 0 to 1": lambda: Evidence(
            TRAIN, Outputs(VAL.features, VAL.logits, VAL.labels + 1), TARGET, NAMES
        ),
        "above 0.5": lambda: Mixed(logits[:2], np.array([0, 1]), np.array([1, 0]), 0.5),
        "name rows 0 to 999": lambda: Evidence(
            TRAIN, VAL, TARGET, NAMES, Mixed(logits[:1], np.array([0]), np.array([999]), 0.6)
        ),
    }.items():
        with pytest.raises(RequestError, match=words):
            wrong()


def test_a_patient_is_one_unit_and_an_unnamed_image_is_its_own():
    some = Outputs(TARGET.features[:3], TARGET.logits[:3], None, ("a", "a", ""))
    assert some.units[0] == some.units[1] != some.units[2]
    assert len(set(Outputs(TARGET.features, TARGET.logits).units)) == len(TRUTH)


def test_numbers_are_kept_as_float32():
    assert Outputs(TARGET.features.astype(np.float64), TARGET.logits).features.dtype == np.float32
