"""A worker of a training that worker 1 alone would end after three steps: `python -m`, for test_strategy.py."""

from absl import flags as absl_flags

from realm_tf import flags

FOLDER = absl_flags.DEFINE_string("folder", None, "Of checkpoints and figures.", required=True)
STRATEGY = flags.define_strategy()


def main(_):
    import keras
    import tensorflow as tf

    from realm_tf import config
    from realm_tf.training import loop, strategy
    from realm_tf.training.optimizer import BertAdamW

    with flags.strategy_scope(STRATEGY):
        model, steps = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]), []

        def loss_fn(batch):
            loss = tf.reduce_sum(model(batch["inputs"]) ** 2)
            return loss, {"loss": loss}

        loop.train(
            loop.Task(
                name="ending alone",
                directory=FOLDER.value,
                parts={"model": model},
                loss_fn=loss_fn,
                batch_fn=lambda step: ({"inputs": tf.ones([1, 2])}, {}),
                optimizer=BertAdamW(model.trainable_variables, config.OptimizerConfig(), 50),
                steps=50,
                hooks=(steps.append,),
                should_end=lambda: strategy.worker() == 1 and len(steps) >= 3,
            )
        )
        print(f"ended after step {steps[-1]}")


if __name__ == "__main__":
    flags.run(main)
