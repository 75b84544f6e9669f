"""The JAX half of test_accelerator.py, a process of its own: KERAS_BACKEND is one for a process.

  python jax_side.py steps FOLDER       reads FOLDER/{start,step_*.npz}, writes FOLDER/jax.npz
  python jax_side.py train ARGUMENTS    the accelerator's binary

TensorFlow cannot be imported, whether it is installed or not.
"""

import os
import pathlib
import runpy
import sys

import numpy as np


class Refusal:
    """A finder of modules that has no TensorFlow."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_text", "tf_keras"):
            raise ModuleNotFoundError(f"No module named {name!r}: refused", name=name)


def steps(folder: pathlib.Path) -> None:
    """Losses, gradients of the first step and the weights after all steps, by the paths of the Keras variables."""
    from realm_tf.config import OptimizerConfig
    from realm_tf.recipes.realm_mini import lessons, package
    from realm_tf.recipes.realm_mini.jax_training import Trainer

    rate = float(np.load(folder / "rate.npy"))
    model, reader = lessons.build_reader(str(folder / "start"), int(np.load(folder / "size.npy")), "float32")
    trainer = Trainer(model, reader, OptimizerConfig(learning_rate=rate))
    result = {}
    for number, path in enumerate(sorted(folder.glob("step_*.npz"))):
        batch = dict(np.load(path, allow_pickle=False))
        measures = trainer.step(batch, rate)
        result |= {f"{name}/{number}": np.asarray(value) for name, value in measures.items()}
    trainer.assign()
    weights = package.reader_arrays(model, reader)
    np.savez(folder / "jax.npz", **result, **{f"weights/{name}": value for name, value in weights.items()})


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusal())
    if sys.argv[1] == "steps":
        os.environ["KERAS_BACKEND"] = "jax"
        steps(pathlib.Path(sys.argv[2]))
    else:
        sys.argv = ["accelerator", *sys.argv[2:]]
        runpy.run_module("realm_tf.recipes.realm_mini.accelerator", run_name="__main__")
