"""The search command, with its supernet, killed at any time."""

import os
import signal

from small_runs import finish, read_until, user_settings
from small_search import PLAIN, assert_same_bits, run, start

from jdarts.runs import CompiledPrograms

__all__ = ["user_settings"]
#: The supernet itself, as small as it gets.
SMALLEST = {**PLAIN, "operations": ("skip_connect", "dil_conv_3x3")}


def test_a_killed_search_resumes_to_the_same_bits(user_settings, tmp_path):
    """It saves after every step, so that a kill falls into a save as likely as between two."""
    folder = tmp_path / "killed"
    command = {**SMALLEST, "program": ("-m", "jdarts.search"), "checkpoint_minutes": 1e-9}
    for shown in ("remaining 2 epochs", "epoch 1/2"):
        process = start(folder, **command)
        read_until(process, shown)
        os.kill(process.pid, signal.SIGKILL)
        code, _, err = finish(process)
        assert (code, err) == (-signal.SIGKILL, "")
    programs = CompiledPrograms()
    _, shown = run(folder, programs=programs, **SMALLEST)
    assert "resuming" in shown
    run(tmp_path / "undisturbed", programs=programs, **SMALLEST)
    assert_same_bits(folder, tmp_path / "undisturbed")
    # Here the pictures are no stand-ins.
    assert (folder / "normal.svg").read_text().rstrip().endswith("</svg>")
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
