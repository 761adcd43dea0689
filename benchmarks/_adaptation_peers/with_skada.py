"""skada: each method learns source and target together from random weights, as its examples do.

The weight of each loss is 1, skada's default; CORAL, whose loss is divided by the square of the features, has 10 beside it, of the grid that
SKADA-Bench searches. Batches hold as many images of the target as of the source, and BatchNorm sees both as one. The networks that play against
the features are skada's, but for their last layer: that of 0.6.0 is a softmax over one output, which is 1 whatever the
features are, so that DANN and CDAN would learn nothing. It is a sigmoid for them, and nothing for MDD, whose loss takes logits.

skada's own scorers judge on the source's validation images and the target's unlabelled ones; the choice is that of
`MixValScorer` (between classes), which SKADA-Bench's published table of deep methods used for the method of the best mean rank, MCC, and for DANN.
The others are told beside it.
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
"""Of the loss beside classification; 1 where a method is not named."""
METHODS = {
    "source_only": deep.SourceOnly, "coral": deep.DeepCoral, "mmd": deep.DAN, "dann": deep.DANN,
    "cdan": deep.CDAN, "mcc": deep.MCC, "mdd": deep.MDD,
}  # fmt: skip


class Network(torch.nn.Module):
    """Trunk and head, with the argument that skada hands on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(), Head(classes)
        initialize_like_keras(self)

    def forward(self, images, sample_weight=None):  # noqa: ARG002 - skada hands it on
        """Return logits."""
        return self.head(self.trunk(images))


def build_discriminator(features: int, outputs: int, last: torch.nn.Module) -> torch.nn.Module:
    """Return skada's network behind a reversed gradient, with another last layer."""
    network = DomainClassifier(num_features=features, n_classes=outputs)
    network.classifier[-1] = last
    return network


def fit_method(method: str, weight: float, task: Task):
    """Return a fitted net."""
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
    # 0.6.0 leaves what it asks of a network on the GPU beside indices on the CPU: it is asked on the CPU.
    net.device = "cpu"
    net.module_.to("cpu")
    return net


def compute_scores(net, task: Task) -> dict[str, float]:
    """Return what each scorer says, greater is better; those that say nothing are left out."""
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
            # 0.6.0: ImportanceWeightedScorer hands on weights, and CDAN's module takes none.
            continue
        if np.isfinite(value):
            scores[name] = value
    return scores


def main() -> None:
    """Learn with every method, judge, choose."""
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
