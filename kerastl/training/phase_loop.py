"""One phase of training: its epochs and steps, what is noted after each, and what moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerastl.errors import Diverged
from kerastl.recipe.phase import Phase
from kerastl.training.averages import Averages
from kerastl.training.callback_state import restore_callbacks, state_of
from kerastl.training.checkpoint import Checkpoint, write_checkpoint
from kerastl.training.checks import check_epoch
from kerastl.training.clock import Clock
from kerastl.training.freezing import silent_dropout, unfreeze
from kerastl.training.good_weights import GoodWeights
from kerastl.training.l2_sp import build_pull
from kerastl.training.learner import learner_of
from kerastl.training.moved_statistics import read_statistics
from kerastl.training.optimizer import build_optimizer, carry_over, rate_factors
from kerastl.training.proof import check_proof, checksums, phase_proof
from kerastl.training.rounding import rounding_of
from kerastl.training.state import Best, History, TrainingState
from kerastl.training.step import BeginsWithPhase, Step, trained_by
from kerastl.training.steps import run_steps
from kerastl.training.streams import Lesson
from kerastl.training.tracing import inference
from kerastl.training.update import build_update
from kerastl.training.validation import validate

OnEpoch = Callable[[Sequence[dict[str, Any]], dict[str, Any]], None]
OnPhaseEnd = Callable[[Phase, History], None]
OnProof = Callable[[Sequence[dict[str, Any]]], None]


class PhaseLoop:
    """The phases of one call of `fit`, one after the other.

    Args:
        model, callbacks, on_epoch, checkpoints, cache, strategy: as in `fit`.
        lessons: all of them, one a phase.
        state: where training stands; kept up to date.
        clock: tells the time that is left.
    """

    def __init__(
        self,
        model: keras.Model,
        lessons: Sequence[Lesson],
        callbacks: Sequence[keras.callbacks.Callback],
        on_epoch: OnEpoch | None,
        checkpoints: Path | None,
        cache: Path,
        strategy: tf.distribute.Strategy,
        state: TrainingState,
        clock: Clock,
    ) -> None:
        self.model, self.lessons, self.strategy = model, lessons, strategy
        self.callbacks, self.on_epoch, self.checkpoints = callbacks, on_epoch, checkpoints
        self.state, self.cache, self.clock = state, cache, clock
        self.good = GoodWeights(model)
        head = {one.path for one in model.get_layer("head").weights}
        self.start = {
            one.path: value
            for one, value in zip(model.weights, self.good.values, strict=True)
            if one.path not in head
        }
        self.optimizer: Any = None
        self.known: set[str] = set()

    def run(
        self,
        saved: Checkpoint | None,
        *,
        on_proof: OnProof | None,
        on_phase_end: OnPhaseEnd | None,
    ) -> None:
        """Run what is left of the phases; parameters as in `fit`, `saved` a checkpoint to go on from."""
        for lesson in self.lessons[self.state.phase :]:
            phase = lesson.phase
            proof = self.run_phase(lesson, saved)
            saved = None
            if on_proof and proof["faults"]:
                on_proof(self.state.proofs)
            check_proof(proof)
            self.end_phase(phase)
            if rounded := rounding_of(self.model, phase, lesson.val):
                proof["trunk"] = rounded
            if on_proof:
                on_proof(self.state.proofs)
            if on_phase_end:
                on_phase_end(phase, self.state.history())

    def run_phase(self, lesson: Lesson, saved: Checkpoint | None) -> dict[str, Any]:
        """Run one phase from its beginning, or from a checkpoint inside it; return what moved."""
        phase, step = lesson.phase, lesson.step
        unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
        variables = trained_by(step, self.model)
        with self.strategy.scope():
            optimizer = self._optimizer(phase, variables, resumed=saved is not None)
            averages = Averages(phase, variables)
        self.model.compile(optimizer.plain, loss=None)
        if saved:
            saved.restore(self.model, optimizer, step, averages)
            with averages.shown():
                self.good.take_all()
        self.good.expect(_may_move(self.model, step, variables))
        if not self.state.before:
            self.state.before = checksums(self.model)
            self.state.statistics = read_statistics(self.model)
        try:
            with silent_dropout(self.model):
                if isinstance(step, BeginsWithPhase) and not saved:
                    step.on_phase(self.model, lesson.streams)
                told = self._run_epochs(lesson, optimizer, averages, variables)
        except Diverged as error:
            raise self._put_back(phase, error) from error
        proof = phase_proof(
            self.model, phase=phase.name, batch_norm=str(phase.batch_norm),
            trained={variable.path for variable in variables}, before=self.state.before,
            statistics=self.state.statistics, may_move=step.may_move,
        )  # fmt: skip
        if told:
            proof["cache"] = told
        self.state.proofs.append(proof)
        return proof

    def _put_back(self, phase: Phase, error: Diverged) -> Diverged:
        """Give the model its last good weights; return the error with what to do about it."""
        self.good.put_back()
        ended = self.state.epochs
        where = f"the end of epoch {ended}" if ended else "its starting weights: no epoch had ended"
        return Diverged(
            error.what,
            f"The model is put back to {where}. "
            f"Try a smaller rate: --set phases[{self.state.phase}].learning_rate="
            f"{phase.learning_rate / 10:g}",
        )

    def _run_epochs(
        self,
        lesson: Lesson,
        optimizer: Any,
        averages: Averages,
        variables: Sequence[keras.Variable],
    ) -> dict[str, Any] | None:
        """Run the epochs of a phase that are left; return what was kept of the frozen front."""
        phase, step, state = lesson.phase, lesson.step, self.state
        first = state.epochs - state.phase_epochs
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks), model=self.model, epochs=first + phase.epochs,
            steps=lesson.first.steps_per_epoch, verbose=0,
        )  # fmt: skip
        self.model.stop_training = False
        callbacks.on_train_begin()
        restore_callbacks(self.callbacks, state.callbacks)
        self._skip(int(self.model._initial_epoch or 0) - state.epochs)
        # Only now: what is folded or kept of the frozen front must be made of the weights that were restored.
        with self.strategy.scope():
            learner = learner_of(self.model, lesson, self.cache)
        forward = inference(learner.model)
        update = build_update(
            learner.model, optimizer, step, variables, self.strategy, learner.streams,
            build_pull(phase.l2_sp, variables, self.start), phase.precision,
        )  # fmt: skip
        logs: dict[str, Any] = {}
        while state.phase_epochs < phase.epochs and not state.stopped:
            started = time.perf_counter()
            callbacks.on_epoch_begin(state.epochs)
            logs = run_steps(
                phase, learner.streams, state, update, optimizer, averages, callbacks, self.strategy,
                bar=self.clock.bar_is_worth_it,
            )  # fmt: skip
            averages.on_epoch(state.phase_epochs + 1)
            with averages.shown():
                step.on_epoch(self.model, lesson.streams)
                if learner.val is not None:
                    callbacks.on_test_begin()
                    logs |= validate(forward, learner.val)
                    callbacks.on_test_end(logs)
                rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
                where = f"phase {phase.name}, epoch {state.epochs + 1}"
                check_epoch(self.model, self.good.now(), logs, where)
                callbacks.on_epoch_end(state.epochs, logs)
                self.good.values = self.good.now()  # again: a callback may have changed them
                self._note(lesson, {"learning_rate": rate, **logs}, started)
            self._checkpoint(optimizer, step, averages)
        callbacks.on_train_end(logs)
        state.callbacks = []
        return learner.told

    def _skip(self, epochs: int) -> None:
        """Count epochs as done that a callback of Keras (BackupAndRestore) brought back from elsewhere."""
        if epochs > 0:
            self.state.epochs += epochs
            self.state.phase_epochs += epochs
            self.good.take_all()

    def _note(self, lesson: Lesson, logs: dict[str, Any], started: float) -> None:
        """Take one epoch into the history and see whether it is the best."""
        phase, state = lesson.phase, self.state
        state.epochs += 1
        state.phase_epochs += 1
        row = {"phase": phase.name, "epoch": state.epochs, **logs}
        state.rows.append(row)
        value = logs.get(phase.monitor)
        if value is not None:
            best = state.best.get(phase.domain)
            known = best.value if best and best.monitor == phase.monitor else None
            state.waited += 1
            if phase.is_better(value, known):
                state.best[phase.domain] = Best(
                    value, state.epochs, self.good.values, phase.monitor
                )
                state.waited = 0
        patience = phase.early_stopping
        worn_out = patience is not None and state.waited >= patience
        state.stopped = worn_out or bool(self.model.stop_training)
        seconds = time.perf_counter() - started
        speed = lesson.first.num_examples / max(seconds, 1e-9)
        if self.on_epoch:
            told = {"seconds": seconds, "images_per_s": speed} | self.clock.took(seconds, state)
            self.on_epoch(state.rows, told)

    def _optimizer(
        self, phase: Phase, variables: Sequence[keras.Variable], *, resumed: bool
    ) -> Any:
        """Return the optimizer of a phase, with what it takes over from that of the phase before."""
        old = self.optimizer if phase.optimizer_state == "keep" else None
        if not resumed:
            known = (
                {} if old is None else {path: self.state.born.get(path, 0) for path in self.known}
            )
            steps = 0 if old is None else int(old.iterations)
            self.state.born = {one.path: known.get(one.path, steps) for one in variables}
        factors = rate_factors(self.model, phase)
        optimizer = build_optimizer(phase, variables, factors, self.state.born)
        if old is not None and not resumed:
            carry_over(old, optimizer)
        self.optimizer, self.known = optimizer, {one.path for one in variables}
        return optimizer

    def _checkpoint(self, optimizer: Any, step: Step, averages: Averages) -> None:
        self.state.callbacks = state_of(self.callbacks)
        if self.checkpoints:
            write_checkpoint(self.checkpoints, self.state, self.model, optimizer, step, averages)

    def end_phase(self, phase: Phase) -> None:
        """Go back to the best weights, and make ready for the next phase."""
        state = self.state
        best = state.best.get(phase.domain)
        kept = bool(best and best.monitor == phase.monitor and phase.keep == "best")
        # The last good ones: of the last epoch as it was judged, averaged where weights are averaged.
        if best and kept:
            self.good.values = best.weights
        self.good.put_back()
        state.phase, state.phase_epochs, state.waited = state.phase + 1, 0, 0
        state.stopped, state.before, state.statistics = False, {}, {}


def _may_move(model: keras.Model, step: Step, variables: Sequence[keras.Variable]) -> set[str]:
    """Return the paths of the weights that a phase may change."""
    trained = {variable.path for variable in variables}
    return trained | {weight.path for weight in model.weights if step.may_move(weight)}
