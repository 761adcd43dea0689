import numpy as np
import pytest
from hospitals_drawn import drawn, logits_for, source_only, with_target
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.selection import Evidence, Mixed, Outputs
from kerastl.selection.validators import class_ami, dev, mixval, snd, source_validation

NAMES = registry.names("validator")
EVIDENCE, TRUTH = source_only(0, shift=0.3)
LOGITS = EVIDENCE.target.logits.astype(np.float64)
SHARES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def score(name, evidence):
    return registry.module("validator", name).VALIDATOR.score(evidence)


def sure(answers, classes=2):
    return with_target(EVIDENCE, logits=logits_for(answers, classes=classes, certainty=20.0))


COLLAPSED = sure(np.zeros(len(TRUTH), int))
RIGHT = sure(TRUTH)


def test_all_nine_are_found():
    assert NAMES == [
        "bnm", "class_ami", "dev", "entropy", "information_maximization", "mixval", "bounded_information", "snd",
        "source_validation",
    ]  # fmt: skip


def test_source_validation_equals_scikit_learns():
    val = EVIDENCE.source_val
    expected = balanced_accuracy_score(val.labels, val.logits.argmax(axis=1))
    assert score("source_validation", EVIDENCE) == pytest.approx(expected)
    auc = source_validation.VALIDATOR.using(source_validation.Options("auc")).score(EVIDENCE)
    assert auc == pytest.approx(roc_auc_score(val.labels, val.logits[:, 1] - val.logits[:, 0]))


def test_entropy_equals_a_sum_over_images():
    expected = sum(float(p @ np.log(p)) for p in SHARES) / len(SHARES)
    assert score("entropy", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_information_maximization_is_the_divergence_from_the_mean_answer():
    """Mutual information as the mean Kullback-Leibler divergence of each answer from their mean."""
    mean = SHARES.mean(axis=0)
    expected = (SHARES * np.log(SHARES / mean)).sum(axis=1).mean()
    assert score("information_maximization", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_bnm_equals_the_square_roots_of_the_eigenvalues():
    norm_of = np.sqrt(np.linalg.eigvalsh(SHARES.T @ SHARES)).sum()
    expected = norm_of / np.sqrt(len(SHARES) * 2)
    assert score("bnm", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_bnm_is_one_for_sure_and_even_answers():
    even = sure(np.arange(len(TRUTH)) % 2)
    assert score("bnm", even) == pytest.approx(1.0, abs=1e-4)


def test_snd_equals_a_loop_over_images():
    few = Outputs(EVIDENCE.target.features[:40], EVIDENCE.target.logits[:40])
    evidence = Evidence(EVIDENCE.source_train, EVIDENCE.source_val, few, EVIDENCE.class_names)
    total = 0.0
    for row in range(40):
        others = np.delete(np.arange(40), row)
        cosine = [
            SHARES[row] @ SHARES[other] / np.linalg.norm(SHARES[row]) / np.linalg.norm(SHARES[other])
            for other in others
        ]
        near = np.exp(np.array(cosine) / 0.05)
        near /= near.sum()
        total -= (near * np.log(near)).sum()
    assert score("snd", evidence) == pytest.approx(total / 40, rel=1e-5)


def test_snd_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch):
    whole = score("snd", EVIDENCE)
    monkeypatch.setattr(snd, "NUMBERS_AT_ONCE", 7 * len(TRUTH))
    assert score("snd", EVIDENCE) == pytest.approx(whole, rel=1e-12)


def test_snd_of_even_answers_in_two_dense_classes():
    """Of each image the neighbours are the other images of its class: log of their number."""
    even = np.arange(len(TRUTH)) % 2
    assert score("snd", sure(even)) == pytest.approx(np.log(len(TRUTH) / 2 - 1), abs=0.01)


def test_dev_equals_the_formula_on_the_weights():
    generator = np.random.default_rng(0)
    weights, losses = generator.exponential(size=50), generator.random(50)
    covariance = np.cov(weights * losses, weights, bias=True)
    eta = -covariance[0, 1] / covariance[1, 1]
    expected = (weights * losses).mean() + eta * weights.mean() - eta
    assert dev.dev_risk(weights, losses) == pytest.approx(expected, rel=1e-9)


def test_dev_of_equal_weights_is_the_mean_loss():
    losses = np.array([0.0, 1.0, 0.0, 0.0])
    assert dev.dev_risk(np.ones(4), losses) == pytest.approx(0.25)


def test_dev_finds_the_risk_at_a_target_that_the_source_hides():
    """p(label | x) is the same and x moves to where the model errs: the source's loss is wrong by far, the weighed one near.

    x is normal, 0 at the source and 1 at the target; the true class is x > 1.2 and the model says x > 0.2.
    """
    generator = np.random.default_rng(0)

    def part(count, middle, labelled=True):
        place = generator.normal(middle, 1, count)
        logits = np.column_stack([np.zeros(count), place - 0.2]).astype(np.float32)
        labels = (place > 1.2).astype(int) if labelled else None
        return Outputs(place[:, None].astype(np.float32), logits, labels)

    evidence = Evidence(part(4000, 0), part(4000, 0), part(4000, 1, False), ("low", "high"))
    at_target = norm.cdf(1.2 - 1) - norm.cdf(0.2 - 1)
    at_source = norm.cdf(1.2) - norm.cdf(0.2)
    assert abs(-score("dev", evidence) - at_target) < 0.05
    assert at_target - at_source > 0.05


def test_density_ratios_are_those_of_the_normal_distributions():
    generator = np.random.default_rng(1)
    source, val, target = (
        generator.normal(middle, 1, (5000, 1)).astype(np.float32) for middle in (0, 0, 0.7)
    )
    labels = np.arange(5000) % 2
    evidence = Evidence(
        Outputs(source, logits_for(labels), labels), Outputs(val, logits_for(labels), labels),
        Outputs(target, logits_for(labels)), ("a", "b"),
    )  # fmt: skip
    true = norm.pdf(val[:, 0], 0.7) / norm.pdf(val[:, 0])
    assert np.corrcoef(dev.density_ratio(evidence, 1.0), true)[0, 1] > 0.99
    assert dev.density_ratio(evidence, 1.0).mean() == pytest.approx(1, abs=0.05)


def test_class_ami_is_one_where_answers_are_the_clusters_and_zero_where_they_are_chance():
    chance = np.random.default_rng(0).integers(2, size=len(TRUTH))
    assert score("class_ami", sure(TRUTH)) > 0.6
    assert score("class_ami", sure(1 - TRUTH)) == pytest.approx(score("class_ami", sure(TRUTH)))
    assert abs(score("class_ami", sure(chance))) < 0.05


def test_class_ami_of_one_image_many_times_is_no_credit():
    same = np.ones((len(TRUTH), EVIDENCE.target.features.shape[1]), np.float32)
    assert score("class_ami", with_target(COLLAPSED, features=same)) == 0


@pytest.mark.parametrize("name", ["information_maximization", "bnm", "class_ami"])
def test_a_right_model_beats_a_collapsed_one(name):
    assert score(name, RIGHT) > score(name, COLLAPSED) + 0.2


@pytest.mark.parametrize("name", ["entropy", "snd"])
def test_a_collapsed_model_deceives(name):
    """What its file says of it: a collapsed model scores no less than one that is right about every image."""
    unsure = with_target(EVIDENCE, logits=logits_for(TRUTH, certainty=2.0))
    assert score(name, COLLAPSED) > score(name, unsure)


def test_a_model_that_follows_the_classes_beats_one_that_tears_them():
    """The same certainty and balance; only the neighbourhoods differ, and only class_ami looks at features."""
    torn = np.random.default_rng(0).permutation(TRUTH)
    assert score("class_ami", RIGHT) > score("class_ami", sure(torn)) + 0.5
    assert score("bnm", RIGHT) == pytest.approx(score("bnm", sure(torn)), abs=0.01)


def mixed_by(answer, options=mixval.VALIDATOR.options):
    """Pairs, and the logits of a model that answers `answer(place)` on a line, mixed as images are."""
    features, _, _ = drawn(0)
    places = features @ features[0]
    logits = answer(places)
    first, second = mixval.draw_pairs(logits, options)
    mixed = options.share * places[first] + (1 - options.share) * places[second]
    return logits, Mixed(answer(mixed), first, second, options.share)


def on_a_line(places):
    return np.column_stack([np.zeros(len(places)), places]).astype(np.float32)


def test_mixval_equals_a_loop_over_pairs():
    logits, mixed = mixed_by(lambda places: on_a_line(np.sin(places)))
    answers, told = logits.argmax(axis=1), mixed.logits.argmax(axis=1)
    kept = {True: [], False: []}
    for pair, (first, second) in enumerate(zip(mixed.first, mixed.second, strict=True)):
        kept[bool(answers[first] == answers[second])].append(told[pair] == answers[first])
    assert min(map(len, kept.values())) > 50
    expected = (np.mean(kept[True]) + np.mean(kept[False])) / 2
    assert score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed)) == pytest.approx(expected)


def test_mixval_prefers_one_boundary_to_many():
    one = mixed_by(on_a_line)
    many = mixed_by(lambda places: on_a_line(np.sin(5 * places)))
    scores = [score("mixval", with_target(EVIDENCE, logits=a, mixed=b)) for a, b in (one, many)]
    assert scores[0] > scores[1] + 0.1


def test_mixval_of_a_collapsed_model_is_a_half():
    logits, mixed = mixed_by(lambda places: on_a_line(np.full(len(places), -1.0)))
    assert score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed)) == 0.5


def test_mixval_without_mixed_images_says_how_to_make_them():
    with pytest.raises(RequestError, match=r"draw_pairs.*leave\s+mixval out"):
        score("mixval", EVIDENCE)


def test_mixval_refuses_another_share():
    logits, mixed = mixed_by(on_a_line, mixval.Options(share=0.7))
    with pytest.raises(RequestError, match=r"share of 0\.55"):
        score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mixval"}))
def test_a_score_repeats_to_the_bit(name):
    assert score(name, EVIDENCE) == score(name, EVIDENCE)


def test_other_starts_of_k_means_are_an_option():
    validator = class_ami.VALIDATOR.using(class_ami.Options(starts=1, seed=5))
    assert validator.score(EVIDENCE) == pytest.approx(score("class_ami", EVIDENCE), abs=0.1)
