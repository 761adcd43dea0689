"""Tasks. A task encodes labels and defines their loss, activation, metrics, columns and export outputs."""

from kerastl.tasks.single_label import SingleLabel

__all__ = ["SINGLE_LABEL", "TASKS", "SingleLabel"]

SINGLE_LABEL = SingleLabel()
TASKS = {SINGLE_LABEL.name: SINGLE_LABEL}
"""All tasks, by the value of `task` in a recipe."""
