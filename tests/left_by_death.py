"""What a run leaves that is killed, without a run of its own for it: a copy of another run's folder at that moment."""

import shutil


def keep_at(monkeypatch, owner, name, call, folder):
    """Copies a run's folder to the one beside it that `left` names, before the n-th call of a function."""
    function, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            shutil.copytree(folder, left(folder))
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def left(folder):
    """Where the copy of a run's folder is."""
    return folder.with_name("left")
