"""BERT's AdamW: no bias correction, decoupled decay except on LayerNorm and biases, global-norm clip, linear schedule.

(`original.md` 2.4: betas 0.9 and 0.999, epsilon 1e-6.) Keras' AdamW always corrects the bias and walks the parameters
in a dozen passes; here one fused TensorFlow kernel a variable does the update.
"""

import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-6


class BertAdamW:
    """Optimizer over a fixed list of Keras variables.

    Args:
      variables: Keras variables, trainable.
      config: `OptimizerConfig`.
      steps: int, length of the schedule.
      rates: {id(variable): factor on the learning rate}; missing means 1, 0 freezes.
      held, hold_steps: variables whose rate is 0 for the first so many steps, while their moments gather.
    """

    def __init__(self, variables, config, steps, rates=None, held=(), hold_steps=0):
        self.variables = [v for v in variables if (rates or {}).get(id(v), 1.0) > 0]
        self._rates = [(rates or {}).get(id(v), 1.0) for v in self.variables]
        self._config = config
        self._held, self._hold_steps = ({id(v) for v in held} if hold_steps else set()), hold_steps
        self.warmup = config.warmup_steps or min(10_000, max(100, steps // 10))
        self.warmup = min(self.warmup, max(1, steps // 2))  # a run of under 200 steps is not all warm-up
        self.steps = steps
        self.first_moments = [tf.Variable(tf.zeros(v.shape)) for v in self.variables]
        self.second_moments = [tf.Variable(tf.zeros(v.shape)) for v in self.variables]
        self._decays = [config.weight_decay if _decayed(v) else 0.0 for v in self.variables]

    def learning_rate(self, step):
        """Linear warm-up, then linear decay to 0 at `steps`; `step` counts from 0.

        With decay_from="start" it is BERT's to the digit: the decay runs from step 0 on, whose own rate is 0.
        """
        if self._config.decay_from == "start":
            share = step / self.warmup if step < self.warmup else max(0.0, 1 - step / self.steps)
            return self._config.learning_rate * share
        up = min(1.0, (step + 1) / self.warmup)
        down = max(0.0, (self.steps - step) / max(1, self.steps - self.warmup))
        return self._config.learning_rate * min(up, down)

    def apply(self, gradients, learning_rate, step=None):
        """One update, inside a tf.function; on each replica of a strategy of its own copy, from the same gradients.

        Args:
          gradients: list like `variables`, None where there is none.
          learning_rate: float32 scalar.
          step: int64 scalar, counted from 1; needed where variables are held.

        Returns: the global norm of the gradients before the clip.
        """
        present = [(i, g) for i, g in enumerate(gradients) if g is not None]
        clipped, norm = tf.clip_by_global_norm(
            [tf.convert_to_tensor(g) for _, g in present], self._config.clip_norm
        )
        for (i, _), gradient in zip(present, clipped, strict=True):
            variable, rate = self.variables[i].value, learning_rate * self._rates[i]
            if id(self.variables[i]) in self._held:
                rate *= tf.cast(step > self._hold_steps, tf.float32)
            if self._decays[i]:
                value = rate * self._decays[i] * tf.convert_to_tensor(variable)
                tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=value)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self.first_moments[i].handle,
                v=self.second_moments[i].handle,
                beta1_power=0.0,  # powers of 0 switch the bias correction off
                beta2_power=0.0,
                lr=rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )
        return norm

    def slots(self):
        """{name: tf.Variable} of the moments, for checkpoints."""
        return {
            f"optimizer/{kind}/{i}": slot
            for kind, slots in (("m", self.first_moments), ("v", self.second_moments))
            for i, slot in enumerate(slots)
        }


def _decayed(variable):
    return not ("norm" in variable.path or variable.path.endswith(("bias", "gamma", "beta")))
