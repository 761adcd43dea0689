import numpy as np

from kerastl.audit.measure import FeatureSet, NeighborClassifier


def _two_clouds(distance, count=60, width=20):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    features = generator.normal(size=(count, width)).astype(np.float32)
    features[:, 0] += distance * labels
    return features, labels


def test_images_are_predicted_by_classifiers_that_were_not_trained_on_their_patient():
    generator = np.random.default_rng(3)
    # Six equal images per patient with random labels: only a classifier trained on the patient can predict them.
    features = np.repeat(generator.normal(size=(60, 40)), 6, axis=0).astype(np.float32)
    labels = np.repeat(generator.permutation(np.arange(60) % 2), 6)
    data = FeatureSet(features, labels, np.repeat(np.arange(60), 6), (40,), seed=0)
    predicted = data.predict(data.train([], []), features).argmax(axis=1)
    assert 0.3 < (predicted == labels).mean() < 0.7


def test_folds_never_split_groups_and_hold_out_each_image_once():
    features, labels = _two_clouds(1.0)
    groups = np.arange(60) // 2
    data = FeatureSet(features, labels, groups, (20,), seed=0)
    held_out_rows = np.concatenate([held_out for _, held_out in data.folds])
    assert sorted(held_out_rows) == list(range(60))
    for trained, held_out in data.folds:
        assert not set(groups[trained]) & set(groups[held_out])


def test_training_on_augmented_images_of_one_class_assigns_them_to_it():
    features, labels = _two_clouds(8.0)
    far = features.copy()
    far[:, 1] += 30.0
    data = FeatureSet(features, labels, np.arange(60), (20,), seed=0)
    only_second = data.predict(data.train([far], [1]), far)
    assert (only_second.argmax(axis=1) == 1).mean() > 0.9


def test_feature_parts_have_the_same_weight_for_any_width_and_unit():
    features, labels = _two_clouds(8.0)
    wide = np.random.default_rng(1).normal(size=(60, 800)).astype(np.float32) * 1000
    both = np.concatenate([features, wide], axis=1)
    data = FeatureSet(both, labels, np.arange(60), (20, 800), seed=0)
    assert (data.predict(data.train([], []), both).argmax(axis=1) == labels).mean() > 0.9


def test_images_unlike_all_others_belong_to_no_class():
    features, labels = _two_clouds(8.0, width=2)
    classifier = NeighborClassifier(FeatureSet(features, labels, np.arange(60), (2,), seed=0))
    swapped = features.copy()
    swapped[:, 0] += 8.0 * (1 - 2 * labels)
    assert (classifier.predict(features) == labels).mean() > 0.8
    assert (classifier.predict(swapped) == 1 - labels).mean() > 0.6
    assert (classifier.predict(features + 50.0) == -1).all()


def test_a_class_with_few_images_is_never_predicted_by_neighbors():
    features = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    labels = np.zeros(60, np.int64)
    labels[:3] = 1
    classifier = NeighborClassifier(FeatureSet(features, labels, np.arange(60), (2,), seed=0))
    assert not (classifier.predict(features) == 1).any()
