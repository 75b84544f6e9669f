"""A harness that injects faults for real into small runs: `python -m realm_tf.chaos`."""
