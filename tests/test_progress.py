import io

import pytest
from rich.console import Console

from realm_tf import progress
from realm_tf.progress import Progress, say


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_come_at_intervals_on_stderr(clock, capsys):
    with Progress("pre-training", total=1200) as bar:
        bar.update(100, loss=5.0)  # too early for a line
        clock[0] += 178
        bar.update(240, loss=2.314, utility=0.12)
        clock[0] += 1
        bar.update(1)
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    # 340 in 178 s are 1.91/s; the 860 to go take 860 / 1.91 = 450 s = 7:30
    assert first == "pre-training  340/1200 step  28 %  1.91/s  2:58 elapsed  7:30 left  loss 2.31  utility 0.12"
    assert last.startswith("pre-training  341/1200 step")


def test_resumed_units_do_not_count_for_the_rate(clock):
    with Progress("pre-training", total=300, start=100) as bar:
        clock[0] += 50
        bar.update(100)
        assert bar.status() == "200/300 step  66 %  2.00/s  0:50 elapsed  0:50 left"


def test_unknown_total_and_long_times(clock):
    with Progress("embedding", unit="block") as bar:
        clock[0] += 3723
        bar.update(7446, best="exact")
        assert bar.line() == "embedding  7446 block  2.00/s  1:02:03 elapsed  best exact"


def test_an_error_is_not_reported_as_the_end(capsys):
    with pytest.raises(ValueError), Progress("ICT", total=2) as bar:
        bar.update(1)
        raise ValueError
    assert capsys.readouterr().err.rstrip().endswith("(stopped)")


def test_live_bars_nest_and_messages_pass(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "_console", lambda: Console(file=screen, force_terminal=True, width=120))
    with Progress("outer", total=2) as outer:
        outer.update(1, loss=1.5)
        with Progress("inner", total=3) as inner:
            inner.update(3)
        say("swapped index [step 5]")
        outer.update(1)
    text = screen.getvalue()
    assert "swapped index [step 5]" in text  # no markup is read into messages
    assert "inner  3/3 step  100 %" in text
    assert "2/2 step" in text and "loss 1.50" in text
    assert progress._display is None
    with Progress("again", total=1) as bar:  # the display can be opened anew
        bar.update(1)
    assert "1/1 step" in screen.getvalue()


def test_numbers():
    assert [progress._number(v) for v in (3, 1234.5, 2.314, 0.12, 0.0123, 3e-5, 0.0, "x")] == [
        *("3", "1234", "2.31", "0.12", "0.012", "3e-05", "0.00", "x")
    ]
