"""Progress of long stages on standard error: a live bar on a terminal, a plain line now and then elsewhere.

Standard output stays free for results, so that a command whose output is JSON can show progress too.
"""

import threading
import time

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table
from rich import text as rich_text

from realm_tf.redact import redacted

PLAIN_INTERVAL_SECONDS = 15.0

_display_lock = threading.RLock()
_display = None  # the rich display that is live now; bars opened inside another bar join it


def say(text):
    """Prints one line to standard error without breaking a live bar."""
    with _display_lock:
        _print(_display.console if _display else _console(), redacted(text))


class Progress:
    """A context manager that shows how far a stage is.

    Use:
      with Progress("pre-training", total=1200, unit="step") as bar:
          bar.update(1, loss=2.31, utility=0.12)

    Bars may be nested (an index refresh inside pre-training); the inner one shows below the outer one.
    """

    def __init__(self, name, total=None, unit="step", start=0):
        """Describes the stage; nothing is shown before `with`.

        Args:
          name: the stage, as the user knows it.
          total: how many units there are; None if unknown, and then neither percent nor time left is shown.
          unit: what is counted, singular.
          start: units done before, by the run that this one resumes; they do not count for the rate.
        """
        self.name, self.total, self.unit = name, total, unit
        self.done, self._start, self._figures = start, start, {}
        self._task = self._console = None
        self._owns_display = False

    def __enter__(self):
        global _display
        self._began = self._last_plain = time.monotonic()
        with _display_lock:
            console = _display.console if _display else _console()
            if console.is_terminal:
                if _display is None:
                    _display, self._owns_display = _live_display(console), True
                    _display.start()
                self._task = _display.add_task(self.name, total=self.total, completed=self.done, bar=self)
            self._console = console
        return self

    def __exit__(self, kind, error, traceback):
        global _display
        line = self.line() if kind is None else f"{self.line()}  (stopped)"
        with _display_lock:
            if self._task is not None and self._owns_display:
                _display.stop()  # leaves the bars that are in it on the screen
                _display = None
                if kind is not None:
                    _print(self._console, line)
            else:
                if self._task is not None and _display is not None:
                    _display.remove_task(self._task)
                _print(self._console, line)
        return False

    def update(self, n=1, **figures):
        """Counts `n` more units as done and shows `figures` (numbers or short strings) until they change."""
        self.done += n
        self._figures.update(figures)
        if self._task is not None:
            with _display_lock:
                if _display is not None:
                    _display.update(self._task, completed=self.done)
            return
        now = time.monotonic()
        if now - self._last_plain >= PLAIN_INTERVAL_SECONDS:
            self._last_plain = now
            with _display_lock:
                _print(self._console, self.line())

    def line(self):
        """The plain line: name, count, percent, rate, time gone, time left, figures."""
        return f"{self.name}  {self.status()}"

    def status(self):
        """The line without the name."""
        elapsed = time.monotonic() - self._began
        rate = (self.done - self._start) / elapsed if elapsed > 0 else 0.0
        if self.total is None:
            parts = [f"{self.done} {self.unit}"]
        else:
            percent = 100 * self.done // self.total if self.total else 100
            parts = [f"{self.done}/{self.total} {self.unit}", f"{percent} %"]
        parts += [f"{_number(rate)}/s", f"{_clock(elapsed)} elapsed"]
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"{_clock((self.total - self.done) / rate)} left")
        parts += [f"{name.replace('_', ' ')} {_number(value)}" for name, value in self._figures.items()]
        return "  ".join(parts)


class _Status(rich_progress.ProgressColumn):
    """Draws `Progress.status`, so that a terminal and a log say the same."""

    def render(self, task):
        return rich_text.Text(task.fields["bar"].status())


def _live_display(console):
    one_line = rich_table.Column(no_wrap=True, overflow="ellipsis")  # figures that do not fit are cut, not wrapped
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=20),
        _Status(table_column=one_line),
        console=console,
        refresh_per_second=2,  # drawing shares the cores with the training
    )


def _console():
    return rich_console.Console(stderr=True)


def _print(console, text):
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _number(value):
    if isinstance(value, str):
        return value
    value = getattr(value, "item", lambda: value)()  # a NumPy scalar
    if isinstance(value, int):
        return str(value)
    value = float(value)
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def _clock(seconds):
    """2:58, or 1:02:58 from an hour on."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
