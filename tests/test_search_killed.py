"""The search command, with its supernet, killed at any time."""

import os
import signal

from small_runs import finish, read_until, user_settings
from small_search import assert_same_bits, run, start

__all__ = ["user_settings"]


def test_a_killed_search_resumes_to_the_same_bits(user_settings, tmp_path):
    """It saves after every step, so that a kill falls into a save as likely as between two."""
    folder = tmp_path / "killed"
    command = {"program": ("-m", "jdarts.search"), "checkpoint_minutes": 1e-9}
    for shown in ("remaining 2 epochs", "epoch 1/2"):
        process = start(folder, **command)
        read_until(process, shown)
        os.kill(process.pid, signal.SIGKILL)
        code, _, err = finish(process)
        assert (code, err) == (-signal.SIGKILL, "")
    _, shown = run(folder)
    assert "resuming" in shown
    run(tmp_path / "undisturbed")
    assert_same_bits(folder, tmp_path / "undisturbed")
