"""How far the index is behind the step it serves."""

from realm_tf.progress import say

WARN_LAG = 4  # refreshes that the index may be behind: beyond that, a warning, where the configuration says no limit


class LagWatch:
    """Warns once, until the lag is down again, when the index has fallen behind.

    settings: `PretrainConfig`. follows: whether an index follows training at all.
    """

    def __init__(self, settings, follows):
        self._follows, self._warned, self._stop = follows, False, settings.stop_lag_steps
        self._warn = settings.warn_lag_steps or (
            WARN_LAG * settings.publish_steps * settings.refresh_every + settings.retriever_hold_steps
        )

    def at(self, step, index_step):
        """The lag of that index at a step."""
        lag = step - index_step
        too_old = self._follows and lag > self._warn
        if too_old and not self._warned:
            say(
                f"warning: the index is {lag} steps old at step {step}: the refresher does not keep up, or is "
                "gone (see refresh.log). Give it a device or machine of its own, or publish less often "
                "(pretrain.publish_steps)"
            )
        self._warned = too_old
        return lag

    def ends_training(self, lag):
        """Whether training may not go on with such a lag (pretrain.stop_lag_steps)."""
        return bool(self._stop) and lag > self._stop
