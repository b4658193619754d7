"""The progress display: what it says, when it says it, and that a failing output fails once."""

import errno
import io
import math
import re
import sys
import threading
import time
import types

import pytest

from jdarts.report import Progress, duration

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
VALUES = {"train/loss": 1.2345, "train/accuracy": 0.5612, "valid/loss": 1.3, "valid/accuracy": 0.53}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def text(self):
        """What was ever written, without control sequences."""
        return CONTROL.sub("", self.getvalue()).replace("\r", "\n")


def run(clock, stream, *, steps=100, seconds=0.34, values=VALUES, **changes):
    """Opens a display of 50 epochs of 390 steps, and makes some steps."""
    options = {"epochs": 50, "steps_per_epoch": 390, "batch_size": 64, "clock": clock} | changes
    progress = Progress(stream=stream, **options)
    first = options.get("first_step", 0)
    with progress:
        for step in range(first + 1, first + steps + 1):
            clock.now += seconds
            progress.step(step, values)
    return progress


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def columns(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")

    def set_columns(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", "30")

    set_columns(80)
    return set_columns


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0.0 s"),
        (-3, "0.0 s"),
        (0.42, "0.4 s"),
        (0.949, "0.9 s"),
        (0.96, "1 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3629, "1 h"),
        (6720, "1 h 52 min"),
        (86399, "1 day"),
        (86400 + 1800 + 1, "1 day 1 h"),
        (2 * 86400 - 1, "2 days"),
        (2 * 86400 + 3 * 3600, "2 days 3 h"),
        (30 * 86400, "30 days"),
    ],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_estimate_comes_once_and_leaves_the_first_step_out(clock):
    stream = io.StringIO()
    with Progress(epochs=50, steps_per_epoch=390, batch_size=64, stream=stream, clock=clock) as progress:
        clock.now += 500  # a first step that compiles
        progress.step(1, VALUES)
        for step in range(2, 4):
            clock.now += 0.34
            progress.step(step, VALUES)
            assert "about" not in stream.getvalue()
        clock.now += 0.34
        progress.step(4, VALUES)
        assert stream.getvalue().endswith(
            "about 1 h 50 min for the remaining 50 epochs: 390 steps each, 0.34 s a step (188 images/s)\n"
        )
        for step in range(5, 20):
            clock.now += 0.34
            progress.step(step, VALUES)
    assert stream.getvalue().count("about") == 1


def test_the_estimate_of_a_resumed_run_counts_what_remains(clock):
    stream = io.StringIO()
    run(clock, stream, steps=5, first_step=49 * 390, seconds=1.0)
    assert stream.getvalue() == ("about 6 min 26 s for the remaining epoch: 390 steps, 1.00 s a step (64 images/s)\n")


def test_steps_dispatched_ahead_of_the_device_do_not_count_as_fast(clock):
    stream = io.StringIO()
    with Progress(epochs=2, steps_per_epoch=100, batch_size=10, stream=stream, clock=clock) as progress:
        for step in range(1, 41):
            # The loop runs ahead of the device by nine steps, and waits for it at every tenth.
            clock.now += 10.0 if step % 10 == 1 else 0.0
            progress.step(step, VALUES if step % 10 == 1 else None)
    assert "1.00 s a step (10 images/s)" in stream.getvalue()


def test_a_hiccup_and_pauses_do_not_change_the_speed(clock):
    stream = io.StringIO()
    with Progress(epochs=2, steps_per_epoch=1000, batch_size=10, stream=stream, clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 60.0 if step == 90 else 1.0
            if step % 7 == 0:
                with progress.pause():
                    clock.now += 100.0
            progress.step(step, VALUES)
    assert stream.getvalue().splitlines()[-1].endswith("10 images/s  31 min 42 s left")


def test_time_left_includes_the_average_pause_of_an_epoch(clock):
    stream = io.StringIO()
    with Progress(epochs=4, steps_per_epoch=10, batch_size=1, stream=stream, clock=clock) as progress:
        for step in range(1, 21):
            clock.now += 1.0
            progress.step(step, VALUES)
            if step % 10 == 0:
                with progress.pause():
                    clock.now += 100.0 if step == 10 else 200.0
                progress.epoch_end(step // 10, VALUES)
        # At step 30 there remain 10 steps of 1 s and one pause, 150 s on the average so far.
        for step in range(21, 31):
            clock.now += 1.0
            progress.step(step, None if step < 30 else VALUES)
    assert stream.getvalue().splitlines()[-1].endswith("2 min 40 s left")


def test_waiting_counts_neither_as_steps_nor_in_the_time_left(clock):
    stream = io.StringIO()
    with Progress(epochs=2, steps_per_epoch=10, batch_size=1, stream=stream, clock=clock) as progress:
        for step in range(1, 12):
            clock.now += 1.0
            progress.step(step, VALUES)
            if step == 2:
                with progress.waiting("compiling the evaluation"):
                    clock.now += 40.0
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["compiling the evaluation ...", "compiling the evaluation: 40 s"]
    assert "1.00 s a step" in lines[2] and lines[2].startswith("about 16 s for")


def test_plain_lines_are_rare_and_without_control_characters(clock):
    stream = io.StringIO()
    run(clock, stream, steps=390 * 2, seconds=0.1)
    lines = stream.getvalue().splitlines()
    assert 6 <= len(lines) <= 9
    assert lines[1] == (
        "epoch  1/50  step 105/390  train loss 1.234 56.1 %  valid loss 1.300 53.0 %  640 images/s  32 min 19 s left"
    )
    assert set(re.findall(r"[^ -~]", stream.getvalue())) == {"\n"}


def test_an_epoch_leaves_a_line_with_its_time(clock):
    stream = io.StringIO()
    with Progress(epochs=50, steps_per_epoch=2, batch_size=1, stream=stream, clock=clock) as progress:
        for step in range(1, 5):
            clock.now += 50
            progress.step(step)
            if step % 2 == 0:
                progress.epoch_end(step // 2, VALUES | {"train/loss": math.nan, "alphas/entropy": 2.01})
    lines = stream.getvalue().splitlines()
    ends = [line for line in lines if "step" not in line and "epoch" in line]
    assert [re.sub(" +", " ", line) for line in ends] == [
        f"epoch {e}/50 train loss nan 56.1 % valid loss 1.300 53.0 % 1 min 40 s alphas entropy 2.010" for e in (1, 2)
    ]


def test_messages_beyond_the_streams_encoding_are_still_written():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with Progress(epochs=1, steps_per_epoch=1, batch_size=1, stream=stream) as progress:
        progress.message("saved in Übung")
    assert stream.buffer.getvalue() == b"saved in ?bung\n"  # pyright: ignore


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_no_line_of_the_live_display_is_wider_than_the_terminal(clock, columns, width):
    columns(width)
    stream = Terminal()
    with Progress(epochs=50, steps_per_epoch=390, batch_size=64, stream=stream, clock=clock) as progress:
        for step in range(1, 20):
            clock.now += 0.34
            progress.step(step, VALUES | {"learning_rate": 0.025, "alphas/entropy": 2.0})
        progress.epoch_end(1, VALUES | {"alphas/entropy": 2.0})
    assert max(len(line) for line in stream.text().splitlines()) <= width
    assert "epoch  1/50" in stream.text()


def test_the_live_display_shows_where_the_run_is(clock, columns):
    columns(100)
    stream = Terminal()
    run(clock, stream, steps=20, values=VALUES | {"learning_rate": 0.0123})
    text = stream.text()
    head = ["search  epoch  1/50  step  20/390", "1 h 50 min left"]
    train = ["train", "loss 1.234", "accuracy 56.1 %"]
    speed = ["188 images/s", "0.34 s a step", "learning rate 0.0123"]
    for part in (*head, *train, *speed):
        assert part in text
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_the_live_display_redraws_at_most_four_times_a_second(clock, columns):
    stream = Terminal()
    run(clock, stream, steps=1000, seconds=0.01)
    assert 20 <= stream.text().count("search  epoch") <= 45


def test_waiting_turns_on_a_terminal_while_the_run_is_busy(columns):
    stream = Terminal()
    with Progress(epochs=1, steps_per_epoch=1, batch_size=1, stream=stream) as progress:
        with progress.waiting("compiling [bold]"):
            deadline = time.monotonic() + 20
            while stream.text().count("compiling [bold]") < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert "jdarts progress" not in [thread.name for thread in threading.enumerate()]
        assert stream.text().count("compiling [bold]") >= 3
    assert re.search(r"compiling \[bold\]: [\d.]+ s", stream.text())


def test_what_others_print_goes_above_the_live_display(columns, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    with Progress(epochs=1, steps_per_epoch=1, batch_size=1) as progress:
        print("a stray line")
        progress.message("a [red]message[/red]")
    assert sys.stdout is stream
    assert "a stray line\n" in stream.text() and "a [red]message[/red]\n" in stream.text()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_abilities_gets_plain_lines(clock, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    run(clock, stream, steps=50)
    assert "\x1b" not in stream.getvalue()
    assert "about" in stream.getvalue()


def test_a_process_without_standard_output_runs_on(clock, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    run(clock, None, steps=50).message("saved")


ERRORS = {
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "broken pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "closed": ValueError("I/O operation on closed file."),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
@pytest.mark.parametrize("where", ["message", "step", "waiting", "pause"])
def test_an_output_that_fails_raises_its_error_once(clock, columns, capsys, error, kind, where):
    attempts = []

    class Failing(kind):
        failing = False

        def write(self, text):
            if self.failing:
                attempts.append(text)
                raise error
            return super().write(text)

    stream = Failing()
    stdout = sys.stdout
    progress = Progress(epochs=1, steps_per_epoch=100, batch_size=1, stream=stream, clock=clock)

    def act():
        match where:
            case "message":
                progress.message("saved")
            case "step":
                for step in range(1, 20):
                    clock.now += 1.0
                    progress.step(step, VALUES)
            case "waiting":
                with progress.waiting("compiling"):
                    pass
            case "pause":
                with progress.pause("saving"):
                    time.sleep(0.05)
                progress.message("saved")

    with progress:
        stream.failing = True
        with pytest.raises(type(error)) as raised:
            act()
        assert raised.value is error
        seen = len(attempts)
        act()
        progress.epoch_end(1, VALUES)
    assert len(attempts) == seen
    assert sys.stdout is stdout
    assert capsys.readouterr() == ("", "")


def test_an_interruption_stops_the_display_and_goes_through(clock, columns):
    stream = Terminal()
    with (
        pytest.raises(KeyboardInterrupt),
        Progress(epochs=1, steps_per_epoch=1, batch_size=1, stream=stream, clock=clock) as progress,
        progress.waiting("compiling"),
    ):
        raise KeyboardInterrupt
    assert "compiling:" not in stream.text()
    assert stream.getvalue().count("\x1b[?25h") == 1
    assert "jdarts progress" not in [thread.name for thread in threading.enumerate()]


class Kernel:
    """Stands in for IPython in a notebook: keeps what its display shows, in order."""

    def __init__(self):
        self.shown = []
        self.kernel = object()

    def get_ipython(self):
        return self

    def display(self, bundle, raw):
        assert raw
        self.shown.append(bundle)

    update = display


@pytest.fixture
def notebook(monkeypatch):
    kernel = Kernel()
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(DisplayHandle=lambda: kernel))
    return kernel


@pytest.fixture
def output(monkeypatch):
    """Puts a stream in the place of standard output, which pytest sets again before each test."""
    stream = io.StringIO()

    def put():
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return put


def test_a_notebook_has_a_bar_above_plain_lines(clock, notebook, output):
    kernel, stream = notebook, output()
    run(clock, stream, steps=100, values=VALUES | {"<b>/loss": 1.0})
    start, *drawn, end = [bundle["text/html"] for bundle in kernel.shown]
    assert 'value="0" max="19500"' in start and end == ""
    assert 60 <= len(drawn) <= 100
    assert re.search(r'value="100" max="19500"', drawn[-1]) and "1 h 50 min left" in drawn[-1]
    assert "&lt;b&gt;" in drawn[-1] and "<th><b>" not in drawn[-1]
    assert kernel.shown[-2]["text/plain"].startswith("search  epoch  1/50  step 100/390")
    # The estimate is the one permanent line, and the bar stands in for lines on the way.
    assert stream.getvalue().startswith("about 1 h 50 min") and stream.getvalue().count("\n") == 1


def test_a_notebook_shows_long_work_without_steps(notebook, output):
    kernel, stream = notebook, output()
    with Progress(epochs=1, steps_per_epoch=1, batch_size=1) as progress, progress.waiting("compiling <the step>"):
        deadline = time.monotonic() + 20
        while not any("compiling &lt;the step&gt;" in each["text/html"] for each in kernel.shown):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "compiling" not in kernel.shown[-1]["text/html"]
    assert stream.getvalue().startswith("compiling <the step>: ")


@pytest.mark.parametrize("where", ["terminal", "other output"])
def test_without_a_notebook_the_lines_stay_as_they_are(where, clock, notebook, output):
    kernel, stream = notebook, output()
    if where == "terminal":
        kernel.kernel = None
    else:
        stream = io.StringIO()
    run(clock, stream, steps=390 * 2, seconds=0.1)
    assert kernel.shown == [] and len(stream.getvalue().splitlines()) >= 6
