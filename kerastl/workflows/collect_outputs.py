"""Features and logits for selection and domain-shift measures. No target labels are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import training
from kerastl.data import ImageDataset, Record, report_unreadable
from kerastl.data.duplicates import names_of_copies
from kerastl.recipe import Phase, Recipe
from kerastl.runs.schemas import ValidationResults
from kerastl.selection.evidence import Evidence, Mixed, Outputs, VerifiedInformation
from kerastl.selection.validators import MixvalOptions, draw_pairs
from kerastl.workflows.datasets import Datasets
from kerastl.workflows.resolve import Plan

Forward = Callable[[Any], Any]
"""Maps images `[b, height, width, 3]` float32 in [0, 255] to (features, logits)."""


def build_forward(model: keras.Model) -> Forward:
    """Return a function that computes pooled features and logits with the current weights of a model."""
    network = keras.Model(model.inputs[0], [model.get_layer("pooled").output, model.outputs[0]])
    forward: Forward = training.trace_inference(network)
    return forward


def resampled_groups(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the name of each image's resampling group, empty for an image that is resampled alone."""
    copies = names_of_copies(records)
    groups = (f"{record.domain}/{record.group}" if record.group else "" for record in records)
    return tuple(copy or group for copy, group in zip(copies, groups, strict=True))


def compute_outputs(forward: Forward, dataset: ImageDataset, *, with_labels: bool) -> Outputs:
    """Return the outputs for every image of a dataset, in the order of its records."""
    batches = [forward(images) for images, _, _ in training.read_batches(dataset, 0)]
    features, logits = (
        np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*batches, strict=True)
    )
    groups = resampled_groups(dataset.records)
    labels = dataset.labels if with_labels else None
    return Outputs(features, logits, labels, groups if any(groups) else None)


def compute_mixed_outputs(
    forward: Forward, target: ImageDataset, logits: np.ndarray[Any, Any], options: MixvalOptions
) -> Mixed:
    """Return the logits of mixed target images.

    Args:
        forward: The candidate.
        target: Target images, not augmented.
        logits: `[n, classes]` of the candidate, which determine the pairs.
        options: Options of the validator `mixval`.

    Raises:
        RunFailed: An image file can no longer be read.
    """
    first, second = draw_pairs(logits, seed=options.seed)
    # Both images of a pair are read in parallel, because without a cache they are decoded again.
    pairs = tf.data.Dataset.zip(tuple(target.select(rows, target.batch_size) for rows in (first, second)))
    mixed_logits = []
    with report_unreadable(target):
        for (first_images, _), (second_images, _) in pairs:
            mixed = options.share * first_images + (1 - options.share) * second_images
            mixed_logits.append(np.asarray(forward(mixed)[1]))
    return Mixed(np.concatenate(mixed_logits), first, second, options.share)


@contextmanager
def source_statistics(model: keras.Model, train: ImageDataset, target_phase: Phase | None) -> Iterator[None]:
    """Inside the context, BatchNorm layers that adopted target statistics in a phase use source statistics.

    Args:
        model: The model. Its weights are restored afterwards, but its `trainable` flags are not.
        train: Source training images, for the statistics.
        target_phase: The phase; None if BatchNorm has source statistics.
    """
    weights = [weight for layer in training.batch_norm_layers(model) for weight in layer.weights]
    with training.preserve_values(weights):
        if target_phase is not None:
            training.unfreeze(model, target_phase.trainable, batch_norm=target_phase.batch_norm)
            training.build_statistics_estimator(model)(train)
        yield


@dataclass(frozen=True)
class SelectionData:
    """The images that all candidates are compared on, not augmented. No test image is among them.

    Args:
        forward: The outputs of the model of all candidates, with its current weights.
        train, val: Source images; None if unavailable.
        target: Target images that training may use.
        mixval: Options of the validator `mixval`; None if it is not used.
        verified: The information verified earlier on the source images; None if they are available, or if it
            is unknown.
    """

    forward: Forward
    train: ImageDataset | None
    val: ImageDataset | None
    target: ImageDataset
    mixval: MixvalOptions | None = None
    verified: VerifiedInformation | None = None

    @classmethod
    def of(cls, plan: Plan, datasets: Datasets, model: keras.Model) -> SelectionData:
        """Return the images of a run."""
        forward = build_forward(model)
        target, mixval = datasets.dataset(datasets.target_training_records), _mixval_options(plan.recipe)
        verified = _verified_information(plan.source_validation)
        train, val = (
            datasets.dataset(datasets.in_split(split)) if datasets.has_source else None
            for split in ("train", "val")
        )
        return cls(forward, train, val, target, mixval, verified)


def _mixval_options(recipe: Recipe) -> MixvalOptions | None:
    validators = recipe.adaptation.select_by if recipe.adaptation else ()
    options = {validator.name: validator.options or MixvalOptions() for validator in validators}
    return options.get("mixval")


def _verified_information(validation: ValidationResults | None) -> VerifiedInformation | None:
    """Return the validation results stored with a source model, or None if they are incomplete."""
    if validation is None or validation.bounded_information is None:
        return None
    information, temperature = validation.bounded_information, validation.temperature
    if information.value is None or temperature is None:
        return None
    return VerifiedInformation(information.value, temperature, information.low, information.high)


def collect_evidence(
    model: keras.Model,
    selection_data: SelectionData,
    target_phase: Phase | None,
    *,
    initial: Evidence | None = None,
) -> Evidence:
    """Return the outputs of a candidate.

    Args:
        model: The candidate. Its weights are restored afterwards, but its `trainable` flags are not.
        selection_data: The images.
        target_phase: The phase in which BatchNorm adopted target statistics. Source images are then evaluated
            with source statistics, because with target statistics the outputs would not show how well the
            candidate separates the classes. None if BatchNorm has source statistics.
        initial: The evidence of the model before adaptation. It is used only if the source images are
            unavailable.
    """
    data, forward = selection_data, selection_data.forward
    target = compute_outputs(forward, data.target, with_labels=False)
    mixed = None
    if data.mixval is not None:
        mixed = compute_mixed_outputs(forward, data.target, target.logits, data.mixval)
    class_names = tuple(data.target.class_names)
    if data.train is None or data.val is None:
        initial_logits = None if initial is None else initial.target.logits
        return Evidence(None, None, target, class_names, mixed, data.verified, initial_logits)
    with source_statistics(model, data.train, target_phase):
        train, val = (
            compute_outputs(forward, dataset, with_labels=True) for dataset in (data.train, data.val)
        )
    return Evidence(train, val, target, class_names, mixed)


def collect_renormalized_evidence(
    model: keras.Model, selection_data: SelectionData, target: ImageDataset
) -> Evidence | None:
    """Return the outputs with separate BatchNorm statistics per domain, or None without BatchNorm.

    Args:
        model: The model before adaptation. Its weights are restored afterwards, but its `trainable` flags
            are not.
        selection_data: The images.
        target: Target images for the statistics.
    """
    if not training.batch_norm_layers(model):
        return None
    phase = Phase("statistics", 1, trainable="all", batch_norm="statistics")
    training.unfreeze(model, phase.trainable, batch_norm=phase.batch_norm)
    with training.preserve_values(model.weights):
        training.build_statistics_estimator(model)(target)
        return collect_evidence(model, selection_data, phase)


@dataclass(frozen=True)
class HeldOutData:
    """Held-out images on which the domain shift is measured.

    Args:
        forward: The outputs of the evaluated model, with its current weights.
        train: Source training images, for BatchNorm statistics.
        val: Labeled source validation images.
        target: Test and validation images of the target, or its unlabeled images if there are none; None
            without a target.
    """

    forward: Forward
    train: ImageDataset
    val: ImageDataset
    target: ImageDataset | None

    @classmethod
    def of(cls, datasets: Datasets, model: keras.Model) -> HeldOutData | None:
        """Return the images of a run, or None if it has one domain or no source images."""
        train, val = datasets.in_split("train"), datasets.in_split("val")
        if not train or not val or not (datasets.has_target or source_domains(datasets)):
            return None
        target = datasets.in_split("target_test", "target_val") or datasets.in_split("target_unlabelled")
        return cls(
            build_forward(model),
            datasets.dataset(train),
            datasets.dataset(val),
            datasets.dataset(target) if target else None,
        )


def source_domains(datasets: Datasets) -> list[str]:
    """Return the domains of the source training images if there are at least two, otherwise an empty list."""
    domains = sorted({record.domain for record in datasets.in_split("train") if record.domain})
    return domains if len(domains) > 1 else []


@dataclass(frozen=True)
class HeldOutOutputs:
    """Outputs of a model on held-out images.

    Args:
        val: Source validation images.
        target: Target images, without labels; None without a target.
    """

    val: Outputs
    target: Outputs | None


def compute_held_out_outputs(
    model: keras.Model, held_out: HeldOutData, target_phase: Phase | None
) -> HeldOutOutputs:
    """Return the outputs of a model on held-out images.

    Args:
        model: The model. Its weights are restored afterwards, but its `trainable` flags are not.
        held_out: The images.
        target_phase: The phase in which BatchNorm adopted target statistics: source images are then evaluated
            with source statistics. None if BatchNorm has source statistics.
    """
    target = None
    if held_out.target is not None:
        target = compute_outputs(held_out.forward, held_out.target, with_labels=False)
    with source_statistics(model, held_out.train, target_phase):
        return HeldOutOutputs(compute_outputs(held_out.forward, held_out.val, with_labels=True), target)
