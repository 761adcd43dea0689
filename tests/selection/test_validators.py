import numpy as np
import pytest
from make_evidence import draw_domain, logits_for, make_source_only, with_target
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.selection import Evidence, Mixed, Outputs, validators
from kerastl.selection.validators import VALIDATORS

NAMES = registry.names("validator")
EVIDENCE, TRUTH = make_source_only(0, shift=0.3)
LOGITS = EVIDENCE.target.logits.astype(np.float64)
SHARES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def score(name, evidence):
    return VALIDATORS[name].score(evidence)


def confident(labels, classes=2):
    return with_target(EVIDENCE, logits=logits_for(labels, classes=classes, certainty=20.0))


COLLAPSED = confident(np.zeros(len(TRUTH), int))
CORRECT = confident(TRUTH)


def test_registry_lists_all_validators():
    assert NAMES == [
        "bnm", "bounded_information", "class_ami", "dev", "entropy", "information_maximization", "mixval", "snd",
        "source_validation",
    ]  # fmt: skip


def test_source_validation_equals_scikit_learn():
    val = EVIDENCE.source_val
    expected = balanced_accuracy_score(val.labels, val.logits.argmax(axis=1))
    assert score("source_validation", EVIDENCE) == pytest.approx(expected)
    options = validators.SourceValidationOptions("auc")
    auc = VALIDATORS["source_validation"].score(EVIDENCE, options)
    assert auc == pytest.approx(roc_auc_score(val.labels, val.logits[:, 1] - val.logits[:, 0]))


def test_entropy_equals_a_sum_over_images():
    expected = sum(float(p @ np.log(p)) for p in SHARES) / len(SHARES)
    assert score("entropy", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_information_maximization_is_the_mean_divergence_from_the_mean_prediction():
    """Mutual information as the mean Kullback-Leibler divergence of each prediction from their mean."""
    mean = SHARES.mean(axis=0)
    expected = (SHARES * np.log(SHARES / mean)).sum(axis=1).mean()
    assert score("information_maximization", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_bnm_equals_the_square_roots_of_the_eigenvalues():
    norm_of = np.sqrt(np.linalg.eigvalsh(SHARES.T @ SHARES)).sum()
    expected = norm_of / np.sqrt(len(SHARES) * 2)
    assert score("bnm", EVIDENCE) == pytest.approx(expected, rel=1e-6)


def test_bnm_is_one_for_confident_balanced_predictions():
    even = confident(np.arange(len(TRUTH)) % 2)
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


def test_snd_does_not_depend_on_the_block_size(monkeypatch):
    whole = score("snd", EVIDENCE)
    monkeypatch.setattr(validators, "SIMILARITIES_PER_BLOCK", 7 * len(TRUTH))
    assert score("snd", EVIDENCE) == pytest.approx(whole, rel=1e-12)


def test_snd_of_two_dense_classes_is_the_log_of_their_size():
    """The neighbors of each image are the other images of its class."""
    even = np.arange(len(TRUTH)) % 2
    assert score("snd", confident(even)) == pytest.approx(np.log(len(TRUTH) / 2 - 1), abs=0.01)


def test_dev_risk_equals_the_formula():
    generator = np.random.default_rng(0)
    weights, losses = generator.exponential(size=50), generator.random(50)
    covariance = np.cov(weights * losses, weights, bias=True)
    eta = -covariance[0, 1] / covariance[1, 1]
    expected = (weights * losses).mean() + eta * weights.mean() - eta
    assert validators.dev_risk(weights, losses) == pytest.approx(expected, rel=1e-9)


def test_dev_risk_with_equal_weights_is_the_mean_loss():
    losses = np.array([0.0, 1.0, 0.0, 0.0])
    assert validators.dev_risk(np.ones(4), losses) == pytest.approx(0.25)


def test_dev_estimates_the_target_risk_under_covariate_shift():
    """p(label | x) is the same, and x shifts to where the model errs, so the unweighted source loss is biased.

    x is normal with mean 0 on the source and 1 on the target; the true class is x > 1.2, and the model predicts x > 0.2.
    """
    generator = np.random.default_rng(0)

    def part(count, mean, labeled=True):
        x = generator.normal(mean, 1, count)
        logits = np.column_stack([np.zeros(count), x - 0.2]).astype(np.float32)
        labels = (x > 1.2).astype(int) if labeled else None
        return Outputs(x[:, None].astype(np.float32), logits, labels)

    evidence = Evidence(part(4000, 0), part(4000, 0), part(4000, 1, False), ("low", "high"))
    at_target = norm.cdf(1.2 - 1) - norm.cdf(0.2 - 1)
    at_source = norm.cdf(1.2) - norm.cdf(0.2)
    assert abs(-score("dev", evidence) - at_target) < 0.05
    assert at_target - at_source > 0.05


def test_density_ratio_approximates_that_of_normal_distributions():
    generator = np.random.default_rng(1)
    source, val, target = (generator.normal(mean, 1, (5000, 1)).astype(np.float32) for mean in (0, 0, 0.7))
    labels = np.arange(5000) % 2
    evidence = Evidence(
        Outputs(source, logits_for(labels), labels), Outputs(val, logits_for(labels), labels),
        Outputs(target, logits_for(labels)), ("a", "b"),
    )  # fmt: skip
    true = norm.pdf(val[:, 0], 0.7) / norm.pdf(val[:, 0])
    assert np.corrcoef(validators.density_ratio(evidence, 1.0), true)[0, 1] > 0.99
    assert validators.density_ratio(evidence, 1.0).mean() == pytest.approx(1, abs=0.05)


def test_class_ami_is_high_for_clusters_and_zero_for_random_predictions():
    chance = np.random.default_rng(0).integers(2, size=len(TRUTH))
    assert score("class_ami", confident(TRUTH)) > 0.6
    assert score("class_ami", confident(1 - TRUTH)) == pytest.approx(score("class_ami", confident(TRUTH)))
    assert abs(score("class_ami", confident(chance))) < 0.05


def test_class_ami_of_identical_images_is_zero():
    same = np.ones((len(TRUTH), EVIDENCE.target.features.shape[1]), np.float32)
    assert score("class_ami", with_target(COLLAPSED, features=same)) == 0


@pytest.mark.parametrize("name", ["information_maximization", "bnm", "class_ami"])
def test_correct_model_scores_higher_than_a_collapsed_one(name):
    assert score(name, CORRECT) > score(name, COLLAPSED) + 0.2


@pytest.mark.parametrize("name", ["entropy", "snd"])
def test_collapsed_model_has_a_high_score(name):
    """As documented, a collapsed model scores higher than an uncertain but correct one."""
    uncertain = with_target(EVIDENCE, logits=logits_for(TRUTH, certainty=2.0))
    assert score(name, COLLAPSED) > score(name, uncertain)


def test_class_ami_prefers_predictions_that_follow_clusters():
    """Confidence and balance are equal, so bnm does not distinguish the two models."""
    permuted = np.random.default_rng(0).permutation(TRUTH)
    assert score("class_ami", CORRECT) > score("class_ami", confident(permuted)) + 0.5
    assert score("bnm", CORRECT) == pytest.approx(score("bnm", confident(permuted)), abs=0.01)


def mix_on_a_line(predict, share=0.55):
    """Return logits `predict(x)` of points on a line, and the mixed points."""
    features, _, _ = draw_domain(0)
    x = features @ features[0]
    logits = predict(x)
    first, second = validators.draw_pairs(logits, seed=0)
    return logits, Mixed(predict(share * x[first] + (1 - share) * x[second]), first, second, share)


def two_class_logits(x):
    return np.column_stack([np.zeros(len(x)), x]).astype(np.float32)


def test_mixval_equals_a_loop_over_pairs():
    logits, mixed = mix_on_a_line(lambda x: two_class_logits(np.sin(x)))
    predicted, mixed_predicted = logits.argmax(axis=1), mixed.logits.argmax(axis=1)
    kept = {True: [], False: []}
    for pair, (first, second) in enumerate(zip(mixed.first, mixed.second, strict=True)):
        kept[bool(predicted[first] == predicted[second])].append(mixed_predicted[pair] == predicted[first])
    assert min(map(len, kept.values())) > 50
    expected = (np.mean(kept[True]) + np.mean(kept[False])) / 2
    assert score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed)) == pytest.approx(expected)


def test_mixval_prefers_a_single_boundary():
    single = mix_on_a_line(two_class_logits)
    many = mix_on_a_line(lambda x: two_class_logits(np.sin(5 * x)))
    scores = [
        score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed)) for logits, mixed in (single, many)
    ]
    assert scores[0] > scores[1] + 0.1


def test_mixval_of_a_collapsed_model_is_a_half():
    logits, mixed = mix_on_a_line(lambda x: two_class_logits(np.full(len(x), -1.0)))
    assert score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed)) == 0.5


def test_mixval_without_mixed_images_explains_how_to_create_them():
    with pytest.raises(RequestError, match=r"draw_pairs.*remove mixval from select_by"):
        score("mixval", EVIDENCE)


def test_mixval_refuses_another_share():
    logits, mixed = mix_on_a_line(two_class_logits, share=0.7)
    with pytest.raises(RequestError, match=r"Set share: 0\.7"):
        score("mixval", with_target(EVIDENCE, logits=logits, mixed=mixed))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mixval"}))
def test_scores_are_reproducible(name):
    assert score(name, EVIDENCE) == score(name, EVIDENCE)


def test_k_means_seed_hardly_changes_class_ami():
    options = validators.ClassAmiOptions(starts=1, seed=5)
    other = VALIDATORS["class_ami"].score(EVIDENCE, options)
    assert other == pytest.approx(score("class_ami", EVIDENCE), abs=0.1)
