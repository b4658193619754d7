import io

import pytest
from made_up_images import write_cifar
from small_runs import run_in_a_process

from jdarts.data.__main__ import ProgressLine, main
from jdarts.errors import InputError


@pytest.fixture
def source(tmp_path):
    write_cifar("cifar10", tmp_path / "originals")
    return tmp_path / "originals"


def run(*arguments):
    return run_in_a_process("-m", "jdarts.data", *arguments)


def test_prepare_says_what_lies_where_and_how_to_go_on(source, tmp_path, capsys):
    data_dir = tmp_path / "tfds"
    main(["prepare", "cifar10", "--from", str(source), "--data-dir", str(data_dir)])
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"CIFAR-10: 60 train and 12 test images (the official set has 50,000 and 10,000) in {data_dir}/cifar10/3.0.2",
        f"search on it with: python -m jdarts.search --dataset cifar10 --data-dir {data_dir}",
    ]
    assert err.splitlines()[-1] == "writing images: 100 %"
    main(["prepare", "cifar10", "--data-dir", str(data_dir)])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "already prepared; --overwrite prepares it again"
    assert err == ""
    main(["prepare", "cifar10", "--from", str(source), "--data-dir", str(data_dir), "--overwrite"])
    assert "already" not in capsys.readouterr().out


def test_list_shows_each_set_and_its_state(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    main(["prepare", "cifar10", "--from", str(source)])
    broken = tmp_path / "tfds" / "cifar100" / "3.0.2"
    broken.mkdir(parents=True)
    (broken / "dataset_info.json").write_text("{")
    capsys.readouterr()
    main(["list"])
    digits, cifar10, cifar100, fashion, svhn, *_ = capsys.readouterr().out.splitlines()
    assert digits.startswith("digits ")
    assert "60 train and 12 test images" in cifar10
    assert str(tmp_path / "tfds/cifar10/3.0.2") in cifar10
    assert f"{broken}/dataset_info.json is damaged" in cifar100
    assert fashion.endswith("python -m jdarts.data prepare fashion_mnist")
    assert svhn.startswith("svhn ")


def test_wrong_names_are_refused(capsys):
    with pytest.raises(InputError, match="did you mean 'cifar100'"):
        main(["prepare", "cifar1000"])
    with pytest.raises(InputError, match="digits is part of scikit-learn"):
        main(["prepare", "digits"])
    for arguments in (["prepare"], ["frobnicate"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()


def test_a_wrong_input_is_one_line_and_exit_code_two(source, tmp_path):
    (source / "cifar-10-batches-bin" / "data_batch_5.bin").unlink()
    code, out, err = run("prepare", "cifar10", "--from", source, "--data-dir", tmp_path / "tfds")
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "data_batch_5.bin" in err
    assert not (tmp_path / "tfds").exists()


def test_the_process_prepares_quietly(source, tmp_path):
    code, out, err = run("prepare", "cifar10", "--from", source, "--data-dir", tmp_path / "tfds")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert all(line.startswith("writing images: ") for line in err.splitlines())


def test_progress_is_one_line_on_a_terminal_and_ten_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        line = ProgressLine(stream)
        for done in range(1, 1001):
            line("writing", done, 1000)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") == 101
    assert terminal.getvalue().endswith("\rwriting: 100 %\n")
    assert len(file.getvalue().splitlines()) == 11
