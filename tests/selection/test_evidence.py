import numpy as np
import pytest
from make_evidence import make_source_only

from kerastl.errors import RequestError
from kerastl.selection import Evidence, Mixed, Outputs

EVIDENCE, TRUTH = make_source_only(0)
TRAIN, VAL, TARGET = EVIDENCE.source_train, EVIDENCE.source_val, EVIDENCE.target
NAMES = EVIDENCE.class_names


def test_invalid_evidence_is_rejected():
    features, logits = TARGET.features, TARGET.logits
    broken = logits.copy()
    broken[3, 0] = np.nan
    for message, build in {
        "300 features, 299 logits": lambda: Outputs(features, logits[1:]),
        "image 3 are NaN": lambda: Outputs(features, broken),
        r"must be \[images, width\]": lambda: Outputs(features[0], logits),
        "got int64": lambda: Outputs(features, TRUTH[:, None]),
        "must be integers": lambda: Outputs(features, logits, TRUTH.astype(float)),
        "2 groups": lambda: Outputs(features, logits, None, ("a", "b")),
        "There are no images": lambda: Outputs(features[:0], logits[:0]),
        "must not use": lambda: Evidence(TRAIN, VAL, Outputs(features, logits, TRUTH), NAMES),
        "source_val: labels are missing": lambda: Evidence(TRAIN, TARGET, TARGET, NAMES),
        "for 3 class names": lambda: Evidence(TRAIN, VAL, TARGET, ("a", "b", "c")),
        "at least two different names": lambda: Evidence(TRAIN, VAL, TARGET, ("a", "a")),
        "same width": lambda: Evidence(TRAIN, VAL, Outputs(features[:, 1:], logits), NAMES),
        "class 'class 1' has no images": lambda: Evidence(
            TRAIN, Outputs(VAL.features, VAL.logits, 0 * VAL.labels), TARGET, NAMES
        ),
        "labels must be 0 to 1": lambda: Evidence(
            TRAIN, Outputs(VAL.features, VAL.logits, VAL.labels + 1), TARGET, NAMES
        ),
        "above 0.5": lambda: Mixed(logits[:2], np.array([0, 1]), np.array([1, 0]), 0.5),
        "refer to rows 0 to 999": lambda: Evidence(
            TRAIN, VAL, TARGET, NAMES, Mixed(logits[:1], np.array([0]), np.array([999]), 0.6)
        ),
    }.items():
        with pytest.raises(RequestError, match=message):
            build()


def test_images_without_a_group_are_their_own_unit():
    some = Outputs(TARGET.features[:3], TARGET.logits[:3], None, ("a", "a", ""))
    assert some.units[0] == some.units[1] != some.units[2]
    assert len(set(Outputs(TARGET.features, TARGET.logits).units)) == len(TRUTH)


def test_features_are_converted_to_float32():
    assert Outputs(TARGET.features.astype(np.float64), TARGET.logits).features.dtype == np.float32
