import numpy as np

from kerastl.audit.measure import FeatureSet, NeighborClassifier


def _two_clouds(distance, count=60, width=20):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    features = generator.normal(size=(count, width)).astype(np.float32)
    features[:, 0] += distance * labels
    return features, labels


def test_no_image_is_judged_by_a_judge_that_saw_its_patient():
    generator = np.random.default_rng(3)
    # Six images a patient, all alike; what a patient has is a toss. Who saw the patient knows, nobody else can.
    features = np.repeat(generator.normal(size=(60, 40)), 6, axis=0).astype(np.float32)
    labels = np.repeat(generator.permutation(np.arange(60) % 2), 6)
    data = FeatureSet(features, labels, np.repeat(np.arange(60), 6), (40,), seed=0)
    answers = data.ask(data.train([], []), features).argmax(axis=1)
    assert 0.3 < (answers == labels).mean() < 0.7


def test_folds_keep_groups_whole_and_judge_everyone_once():
    features, labels = _two_clouds(1.0)
    groups = np.arange(60) // 2
    data = FeatureSet(features, labels, groups, (20,), seed=0)
    judged = np.concatenate([held_out for _, held_out in data.folds])
    assert sorted(judged) == list(range(60))
    for trained, held_out in data.folds:
        assert not set(groups[trained]) & set(groups[held_out])


def test_what_was_learnt_from_changed_images_of_one_class_only():
    features, labels = _two_clouds(8.0)
    far = features.copy()
    far[:, 1] += 30.0
    data = FeatureSet(features, labels, np.arange(60), (20,), seed=0)
    only_second = data.ask(data.train([far], [1]), far)
    assert (only_second.argmax(axis=1) == 1).mean() > 0.9


def test_parts_weigh_the_same_whatever_their_width_and_unit():
    features, labels = _two_clouds(8.0)
    wide = np.random.default_rng(1).normal(size=(60, 800)).astype(np.float32) * 1000
    both = np.concatenate([features, wide], axis=1)
    data = FeatureSet(both, labels, np.arange(60), (20, 800), seed=0)
    assert (data.ask(data.train([], []), both).argmax(axis=1) == labels).mean() > 0.9


def test_images_unlike_all_others_lie_nowhere():
    features, labels = _two_clouds(8.0, width=2)
    where = NeighborClassifier(FeatureSet(features, labels, np.arange(60), (2,), seed=0))
    swapped = features.copy()
    swapped[:, 0] += 8.0 * (1 - 2 * labels)
    assert (where.among(features) == labels).mean() > 0.8
    assert (where.among(swapped) == 1 - labels).mean() > 0.6
    assert (where.among(features + 50.0) == -1).all()


def test_a_class_of_few_images_has_no_place_of_its_own():
    features = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    labels = np.zeros(60, np.int64)
    labels[:3] = 1
    where = NeighborClassifier(FeatureSet(features, labels, np.arange(60), (2,), seed=0))
    assert not (where.among(features) == 1).any()
