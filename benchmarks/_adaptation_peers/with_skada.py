"""skada: each method is trained on source and target together from random weights, as in its examples.

The weight of each adaptation loss is 1, skada's default. CORAL, which divides its loss by the squared number of features, also runs
with 10, a value from the grid of SKADA-Bench. Each batch has as many target images as source images, and BatchNorm normalizes
both together. The discriminators are skada's except for the last layer: in 0.6.0 it is a softmax over one output, which
is always 1, so DANN and CDAN would not train. It is replaced by a sigmoid, and by the identity for MDD, whose loss takes logits.

skada's scorers use the source validation images and the unlabeled target images. The method is selected by `MixValScorer`
(inter-class), which the published SKADA-Bench table of deep methods used for MCC, the method with the best mean rank, and for
DANN. The scores of the other scorers are reported, too.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import torch
from shared import DEVICE, Head, Task, Trunk, initialize_like_keras, print_results
from skada import deep
from skada.deep.modules import DomainClassifier
from skada.metrics import (
    DeepEmbeddedValidation,
    ImportanceWeightedScorer,
    MixValScorer,
    PredictionEntropyScorer,
    SoftNeighborhoodDensity,
)

SELECTED_BY = "mix_val_inter"
FEATURES = 128
WEIGHTS = {"coral": (1, 10)}
"""Weights of the adaptation loss by method. The default is 1."""
METHODS = {
    "source_only": deep.SourceOnly, "coral": deep.DeepCoral, "mmd": deep.DAN, "dann": deep.DANN,
    "cdan": deep.CDAN, "mcc": deep.MCC, "mdd": deep.MDD,
}  # fmt: skip


class Network(torch.nn.Module):
    """Trunk and head, with the extra argument that skada passes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(), Head(classes)
        initialize_like_keras(self)

    def forward(self, images, sample_weight=None):  # noqa: ARG002 - skada passes it
        """Return logits."""
        return self.head(self.trunk(images))


def build_discriminator(features: int, outputs: int, last: torch.nn.Module) -> torch.nn.Module:
    """Return skada's domain classifier with another last layer."""
    network = DomainClassifier(num_features=features, n_classes=outputs)
    network.classifier[-1] = last
    return network


def fit_method(method: str, weight: float, task: Task):
    """Return a fitted network."""
    torch.manual_seed(task.seed)
    options = {} if method == "source_only" else {"reg": weight}
    if method in ("dann", "cdan"):
        width = FEATURES if method == "dann" else FEATURES * task.classes
        options["domain_classifier"] = build_discriminator(width, 1, torch.nn.Sigmoid())
    if method == "mdd":
        options["disc_classifier"] = build_discriminator(FEATURES, task.classes, torch.nn.Identity())
    net = METHODS[method](
        Network(task.classes), layer_name="trunk", optimizer=torch.optim.Adam, lr=1e-3, train_split=None,
        batch_size=task.batch_size, max_epochs=task.epochs, verbose=0, device=DEVICE, **options,
    )  # fmt: skip
    source, target = task.images["train"], task.images["target_unlabelled"]
    domains = np.concatenate([np.full(len(source), 1), np.full(len(target), -2)])
    labels = np.concatenate([task.labels["train"], np.full(len(target), -1)])
    net.fit(np.concatenate([source, target]), labels, sample_domain=domains)
    # skada 0.6.0 indexes GPU outputs with CPU tensors, so predict on the CPU.
    net.device = "cpu"
    net.module_.to("cpu")
    return net


def compute_scores(net, task: Task) -> dict[str, float]:
    """Return the score of each scorer. Higher is better. Scorers that fail or return no finite score are left out."""
    source, target = task.images["val"], task.images["target_unlabelled"]
    images = np.concatenate([source, target])
    labels = np.concatenate([task.labels["val"], np.full(len(target), -1)])
    domains = np.concatenate([np.full(len(source), 1), np.full(len(target), -2)])
    scorers = {
        SELECTED_BY: MixValScorer(ice_type="inter", random_state=task.seed),
        "mix_val_intra": MixValScorer(ice_type="intra", random_state=task.seed),
        "prediction_entropy": PredictionEntropyScorer(),
        "importance_weighted": ImportanceWeightedScorer(),
        "soft_neighborhood_density": SoftNeighborhoodDensity(),
        "deep_embedded_validation": DeepEmbeddedValidation(random_state=task.seed),
    }
    scores = {}
    for name, scorer in scorers.items():
        try:
            value = float(scorer(net, images, labels, sample_domain=domains))
        except TypeError:
            # skada 0.6.0: ImportanceWeightedScorer passes weights, which CDAN's module does not accept.
            continue
        if np.isfinite(value):
            scores[name] = value
    return scores


def main() -> None:
    """Train with every method, score the results, and select a method."""
    task = Task.parse()
    candidates = [(name, weight) for name in METHODS for weight in WEIGHTS.get(name, (1,))]
    values: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    for method, weight in candidates:
        name = method if weight == 1 else f"{method}, weight {weight}"
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            net = fit_method(method, weight, task)
            validation = compute_scores(net, task)
            test = task.images["target_test"]
            probabilities = net.predict_proba(test, sample_domain=np.full(len(test), -2))
        values[name] = task.score(np.asarray(probabilities))
        for scorer, value in validation.items():
            scores.setdefault(scorer, {})[name] = value
    print_results(values, scores, SELECTED_BY)


main()
