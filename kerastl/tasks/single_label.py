"""Single-label classification: every labeled image has exactly one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    Array = np.ndarray[Any, Any]

# NumPy, SciPy and TensorFlow are imported inside functions: the command line reads only names.


class SingleLabel:
    """A label is the name of one class. Models return a logit per class."""

    name = "single_label"
    unlabeled = -1
    """The encoding of an image without a label."""
    metric_titles: ClassVar[Mapping[str, str]] = {
        "group_auc": "AUC by group",
        "auc": "AUC",
        "balanced_accuracy": "balanced accuracy",
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "ece": "expected calibration error",
        "brier": "Brier score",
        "log_loss": "log loss",
    }
    """The overall metrics in `scores.json`, with display titles."""
    headlines = ("group_auc", "balanced_accuracy", "auc", "accuracy")
    """The metrics that can summarize a run, in order of preference."""
    column_prefix, logit_prefix = "prob_", "logit_"
    outputs = ("probabilities", "predicted", "class_names")
    """The outputs of every served signature."""

    def encode(self, labels: Iterable[str | None], class_names: Sequence[str]) -> Array:
        """Return the class index of each label: `[n]` int32, -1 if it is missing or not a class."""
        import numpy as np

        indices: dict[str | None, int] = {name: index for index, name in enumerate(class_names)}
        return np.array([indices.get(label, self.unlabeled) for label in labels], np.int32)

    def loss(
        self, labels: tf.Tensor, logits: tf.Tensor, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0
    ) -> tf.Tensor:
        """Return the cross-entropy of each image.

        Args:
            labels: `[batch]` int32, or `[batch, classes]` float32 rows that sum to 1 (mixed images).
            logits: `[batch, classes]` float32.
            label_smoothing: The fraction of the target, 0 to below 1, that is distributed evenly over all
                classes (Szegedy et al. 2016, arXiv:1512.00567, section 7).
            focal_gamma: The term for a class with predicted probability p is weighted by `(1 - p) ** gamma`
                (Lin et al. 2017, arXiv:1708.02002, equation 4).

        Returns:
            `[batch]` float32, in nats.
        """
        import tensorflow as tf

        num_classes = logits.shape[-1]
        is_mixed = tf.as_dtype(labels.dtype).is_floating
        shares = labels if is_mixed else tf.one_hot(labels, num_classes)
        target = shares * (1.0 - label_smoothing) + label_smoothing / num_classes
        logits = tf.cast(logits, tf.float32)
        if not focal_gamma:
            return tf.nn.softmax_cross_entropy_with_logits(target, logits)
        log_shares = tf.nn.log_softmax(logits)
        # 1 - p by expm1: near p = 1, the difference and the gradient of its power lose all precision.
        missing = tf.maximum(-tf.math.expm1(log_shares), 1e-7)
        return -tf.reduce_sum(target * missing**focal_gamma * log_shares, -1)

    def activation(self, logits: tf.Tensor, temperature: float | None = None) -> tf.Tensor:
        """Return the probabilities for logits: `[n, classes]` of the same dtype. Rows sum to 1.

        Args:
            logits: `[n, classes]`.
            temperature: Divisor of the logits, above 0. None for 1.
        """
        import tensorflow as tf

        return tf.nn.softmax(logits if temperature is None else logits * (1.0 / temperature))

    def probabilities(self, logits: Array, temperature: float | None = None) -> Array:
        """Return the probabilities for an array of logits: `[n, classes]` float64. Rows sum to 1.

        In float32, confident predictions would all be 1, and tie in the AUC, if logits differ by more than
        17.

        Args:
            logits: `[n, classes]`.
            temperature: Divisor of the logits, above 0. None for 1.
        """
        import numpy as np
        from scipy.special import softmax

        return softmax(np.asarray(logits, np.float64) / (temperature or 1.0), axis=1)

    def columns(self, class_names: Sequence[str]) -> list[str]:
        """Return the names of the columns with probabilities in a table of predictions."""
        return [f"{self.column_prefix}{name}" for name in class_names]

    def logit_columns(self, class_names: Sequence[str]) -> list[str]:
        """Return the names of the columns with logits in a table of predictions."""
        return [f"{self.logit_prefix}{name}" for name in class_names]

    def class_names_of(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Return the class names of the columns with probabilities, in order."""
        prefix = self.column_prefix
        return tuple(name.removeprefix(prefix) for name in columns if name.startswith(prefix))
