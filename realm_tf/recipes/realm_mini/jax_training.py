"""Steps and readings of both heads as compiled functions of arrays, through Keras' JAX backend."""

import functools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import keras
import numpy as np

from realm_tf.config import OptimizerConfig
from realm_tf.models.masked_lm import MaskedLanguageModel
from realm_tf.models.span_reader import SpanReader
from realm_tf.recipes.realm_mini import jax_adamw, lessons

MASKED, SPANS = "masked", "spans"  # kinds of batch
TIMED_STEPS = 3


def kind_of(batch: dict[str, np.ndarray]) -> str:
    """MASKED or SPANS."""
    return MASKED if "mask_positions" in batch else SPANS


class Trainer:
    """Weights and moments of both heads on the device, and the step that changes them.

    Args:
      model, reader: two heads on one encoder, of `lessons.build_reader`.
      config: of the optimizer; `step` takes the learning rate itself.
    """

    def __init__(self, model: MaskedLanguageModel, reader: SpanReader, config: OptimizerConfig):
        self._config = config
        self._variables, rates = lessons.trained(model, reader)
        self._rates = [rates.get(id(v), 1.0) for v in self._variables]
        self._decays = [jax_adamw.decay_of(v.path, config.weight_decay) for v in self._variables]
        self._loss_fn = lessons.make_loss_fn(model, reader, lambda batch: [batch])
        self._used = {kind: _used(kind, model, reader, self._variables) for kind in (MASKED, SPANS)}
        # Copies: the step takes its arguments' memory, and the Keras variables stay readable.
        weights = [jnp.array(v.value, copy=True) for v in self._variables]
        self._state = weights, *([jnp.zeros_like(w) for w in weights] for _ in range(2))
        self._jitted = {kind: jax.jit(functools.partial(self._update, kind), donate_argnums=0) for kind in self._used}
        point, fill = lessons.make_readings(model, reader)
        self._point, self._fill = jax.jit(self._bound(point)), jax.jit(self._bound(fill))
        self._compiled = {}

    def step(self, batch: dict[str, np.ndarray], learning_rate: float) -> dict[str, jax.Array]:
        """One update. Returns {measure: scalar}, on the device still."""
        kind = kind_of(batch)
        run = self._compiled.get((kind, batch["token_ids"].shape), self._jitted[kind])
        self._state, measures = run(self._state, batch, np.float32(learning_rate))
        return measures

    def point(self, batch: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
        """See `lessons.make_readings`."""
        return self._point(self._state[0], batch)

    def fill(self, batch: dict[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
        """See `lessons.make_readings`."""
        return self._fill(self._state[0], batch)

    def compile(self, samples: Iterable[dict[str, np.ndarray]]) -> None:
        """Compiles the step for the shapes of these batches, at the same time as far as there are cores."""
        lowered = {}
        for batch in samples:  # traced one by one: Keras' scopes are not for several threads
            key = kind_of(batch), batch["token_ids"].shape
            if key not in lowered:
                lowered[key] = self._jitted[key[0]].lower(self._state, batch, np.float32(0))
        with ThreadPoolExecutor() as pool:
            programs = pool.map(lambda program: program.compile(), lowered.values())
            self._compiled |= dict(zip(lowered, programs, strict=True))

    def seconds(self, batch: dict[str, np.ndarray]) -> float:
        """How long a step with such a batch takes; on copies of the weights, which learn nothing of it."""
        kept, self._state = self._state, jax.tree.map(jnp.copy, self._state)
        jax.block_until_ready(self.step(batch, 0.0))
        start = time.monotonic()
        jax.block_until_ready([self.step(batch, 0.0) for _ in range(TIMED_STEPS)])
        self._state = kept
        return (time.monotonic() - start) / TIMED_STEPS

    def assign(self) -> None:
        """Puts the weights into the Keras variables."""
        for variable, value in zip(self._variables, self._state[0], strict=True):
            variable.assign(jnp.array(value, copy=True))

    def gradients(self, batch: dict[str, np.ndarray]) -> tuple[jax.Array, dict, list[jax.Array]]:
        """(loss, measures, gradients of the variables that a batch of this kind uses, in their order)."""
        return self._gradients(kind_of(batch), self._state[0], batch)

    def _gradients(self, kind, weights, batch):
        def loss_of(used):
            return self._bound(self._loss_fn)(_put(weights, self._used[kind], used), batch)

        (loss, measures), gradients = jax.value_and_grad(loss_of, has_aux=True)(_take(weights, self._used[kind]))
        return loss, measures, gradients

    def _bound(self, function):
        """(weights, batch) -> what `function(batch)` is where the Keras variables have these values."""

        def run(weights, batch):
            with keras.StatelessScope(state_mapping=list(zip(self._variables, weights, strict=True))):
                return function(batch)

        return run

    def _update(self, kind, state, batch, learning_rate):
        used = self._used[kind]
        _, measures, gradients = self._gradients(kind, state[0], batch)
        rates = [learning_rate * rate for rate in _take(self._rates, used)]
        *changed, norm = jax_adamw.update(
            *(_take(part, used) for part in state),
            gradients,
            rates,
            _take(self._decays, used),
            self._config.clip_norm,
        )
        state = tuple(_put(part, used, values) for part, values in zip(state, changed, strict=True))
        return state, measures | {"gradient_norm": norm}


def _used(kind, model, reader, variables):
    """Positions of the variables that the loss of a kind depends on: the others keep weight, moments and all."""
    encoder = {id(v) for v in model.backbone.trainable_variables}
    other = reader.head_weights().values() if kind == MASKED else model.head.trainable_variables
    unused = {id(v) for v in other} - encoder | {id(v) for v in model.backbone.pooled_dense.trainable_variables}
    return [i for i, v in enumerate(variables) if id(v) not in unused]


def _take(values, places):
    return [values[i] for i in places]


def _put(values, places, new):
    result = list(values)
    for i, value in zip(places, new, strict=True):
        result[i] = value
    return result
