"""The user's cache folder: what processes load from it is theirs alone."""

import os
import stat

import pytest

from jdarts.files import user_cache
from jdarts.files.user_cache import is_private_file, private_folder

OTHER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def open_mask():
    """A process that would let all users write to what it makes."""
    mask = os.umask(0)
    yield
    os.umask(mask)


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_folders_are_made_for_their_owner_alone(tmp_path, open_mask):
    folder = private_folder(tmp_path / "cache" / "jdarts" / "programs")
    assert [mode(path) for path in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3
    assert private_folder(folder) == folder


@pytest.mark.parametrize("given", [0o777, 0o770, 0o722, 0o702])
def test_a_folder_that_others_may_write_to_is_emptied_and_closed(tmp_path, given):
    folder, elsewhere = tmp_path / "jdarts", tmp_path / "elsewhere"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (folder / "link").symlink_to(elsewhere)
    folder.chmod(given)
    assert private_folder(folder) == folder
    assert mode(folder) == 0o700
    assert not list(folder.iterdir())
    assert (elsewhere / "file").exists()


def test_a_folder_that_others_may_read_keeps_what_it_holds(tmp_path):
    folder = tmp_path / "jdarts"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "file").touch()
    assert (private_folder(folder) / "file").exists()
    assert mode(folder) == 0o700


@as_root
def test_folders_of_others_are_refused(tmp_path):
    for given in (tmp_path / "jdarts", tmp_path / "theirs" / "jdarts"):
        given.mkdir(parents=True)
    os.chown(tmp_path / "jdarts", OTHER, -1)
    os.chown(tmp_path / "theirs", OTHER, -1)
    for folder in (tmp_path / "jdarts", tmp_path / "theirs" / "jdarts"):
        with pytest.raises(PermissionError, match=f"belongs to another user .number {OTHER}"):
            private_folder(folder)


def test_a_place_that_others_may_change_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match=r"others may write to .* \(mode 0777\)"):
        private_folder(tmp_path / "jdarts")
    # As in /tmp, nobody can rename what belongs to somebody else.
    tmp_path.chmod(0o1777)
    assert mode(private_folder(tmp_path / "jdarts")) == 0o700


def test_links_lead_to_folders_of_the_user_alone(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "jdarts").symlink_to(tmp_path / "disk")
    assert private_folder(tmp_path / "jdarts") == tmp_path / "disk"
    if os.geteuid() == 0:
        os.chown(tmp_path / "jdarts", OTHER, -1, follow_symlinks=False)
        with pytest.raises(PermissionError, match="another user"):
            private_folder(tmp_path / "jdarts")


def test_files_of_the_user_alone(tmp_path):
    file = tmp_path / "file"
    file.touch(0o755)
    assert is_private_file(file)
    (tmp_path / "link").symlink_to(file)
    assert not is_private_file(tmp_path / "link")
    assert not is_private_file(tmp_path)
    file.chmod(0o775)
    assert not is_private_file(file)


@as_root
def test_files_of_others(tmp_path):
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", OTHER, -1)
    assert not is_private_file(tmp_path / "file")


def test_a_user_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("no home folder")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(user_cache.Path, "home", no_home)
    with pytest.raises(OSError, match="no home folder"):
        user_cache.cache_folder()
