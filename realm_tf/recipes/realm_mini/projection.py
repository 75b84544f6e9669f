"""The retriever's projection to the index' dimensions, learnt from pairs of sentence embeddings that are made once.

The encoder stays as it is. A projection on principal directions keeps the distances between passages; questions want
those directions kept that tell the right passage from its neighbours, which pairs of question and passage tell.
"""

import numpy as np
import tensorflow as tf

EPSILON = 1e-12


def learn(
    questions_QH: np.ndarray,
    passages_PH: np.ndarray,
    own_Q: np.ndarray,
    kernel_HD: np.ndarray,
    bias_D: np.ndarray,
    steps: int = 600,
    batch_size: int = 1024,
    rate: float = 3e-4,
    teacher_weight: float = 2.0,
    seed: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float32 [H, D] and bias [D] of a projection followed by a LayerNorm.

    The loss of a batch of pairs is the cross-entropy of the own passage among the batch's, and the divergence from the
    distribution that the whole embeddings' cosines give, which keeps what the encoder knows beyond the pairs.

    Args:
      questions_QH, passages_PH: pooled vectors of the encoder.
      own_Q: the row of `passages_PH` that answers each question.
      kernel_HD, bias_D: where to start, such as the principal directions.
    """
    rng = np.random.default_rng(seed)
    kernel, bias = tf.Variable(kernel_HD), tf.Variable(bias_D)
    temperature = tf.Variable(20.0)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(rate, steps))

    @tf.function(autograph=False)
    def step(q_BH, p_BH, same_BB):
        teacher = tf.nn.softmax(tf.where(same_BB, -1e9, 20.0 * tf.matmul(_unit(q_BH), _unit(p_BH), transpose_b=True)))
        with tf.GradientTape() as tape:
            q_BD, p_BD = (normal(tf.matmul(x, kernel) + bias) for x in (q_BH, p_BH))
            cosine = tf.matmul(q_BD, p_BD, transpose_b=True) / q_BD.shape[1]
            logits = tf.where(same_BB, -1e9, temperature * cosine)
            own = tf.linalg.diag_part(tf.nn.log_softmax(logits))
            student = tf.where(same_BB, -1e9, 20.0 * cosine)
            divergence = tf.nn.softmax_cross_entropy_with_logits(teacher, student)
            loss = -tf.reduce_mean(own) + teacher_weight * tf.reduce_mean(divergence)
        variables = [kernel, bias, temperature]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    for _ in range(steps):
        chosen = rng.choice(len(questions_QH), batch_size, replace=False)
        own = own_Q[chosen]
        same = (own[:, None] == own[None]) & ~np.eye(batch_size, dtype=bool)  # another question on the same passage
        step(tf.constant(questions_QH[chosen]), tf.constant(passages_PH[own]), tf.constant(same))
    return kernel.numpy(), bias.numpy()


def normal(x):
    """LayerNorm without gain and offset."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(centred * centred, axis=-1, keepdims=True) + EPSILON)


def _unit(x):
    return tf.math.l2_normalize(x, axis=-1)
