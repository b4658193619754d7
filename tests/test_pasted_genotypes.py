"""Genotypes as people paste them: assignments, logs, quotes, NumPy's numbers, a list for each node."""

import html
import json
import re

import command_line
import pytest
from mutations import bounded, damaged_texts

from jdarts import zoo
from jdarts.derive import main as derive_main
from jdarts.describe.command import main as describe_main
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype, parse_genotype
from jdarts.genotype.text import plain_text
from jdarts.resolve import find_any_genotype, find_genotype
from jdarts.runs.names import genotype_label

derive = command_line.fixture(derive_main, "derive")
describe = command_line.fixture(describe_main, "describe")


def nodes(cell):
    """A cell as pt.darts and Katib print it, a list for each node."""
    return [list(cell[start : start + 2]) for start in range(0, len(cell), 2)]


def pt_darts(genotype):
    normal, reduce = nodes(genotype.normal), nodes(genotype.reduce)
    return f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"


def katib(genotype):
    text = pt_darts(genotype).replace(" ", "").replace("max_pool_", "max_pooling_").replace("avg_pool_", "avg_pooling_")
    text = text.replace("sep_conv", "separable_convolution").replace("dil_conv", "dilated_convolution")
    return "Best-Genotype=" + text.replace("skip_connect", "skip_connection")


def numpy_numbers(genotype):
    text = str(genotype)
    for number in range(10):
        text = text.replace(f"', {number})", f"', np.int64({number}))")
    text = text.replace("range(2, 6)", "array([2, 3, 4, 5])").replace(
        "range(1, 9)", "numpy.array([*range(1, 9)], dtype=int64)"
    )
    return text.replace("[*range(1, 9)]", str(list(range(1, 9))))


def as_dict(genotype):
    """The fields as Python prints them, with the states of a concatenation as a range."""
    texts = (f"'{name}': {value}" for name, value in json.loads(genotype.to_json()).items())
    return f"{{{', '.join(texts)}}}".replace("[2, 3, 4, 5]", "range(2, 6)")


def as_call(genotype):
    return f"dict({', '.join(f'{name}={value}' for name, value in json.loads(genotype.to_json()).items())})"


LOG = """07/26 04:16:25 PM epoch 0 lr 2.500000e-02
07/26 04:16:25 PM genotype = {}
tensor([[0.1246, 0.1252]], device='cuda:0')
"""

#: What people paste, from a genotype.
FORMS = {
    "an assignment": lambda g: f"DARTS_V2 = {g}",
    "an annotated assignment": lambda g: f"BEST: Genotype = {g}",
    "a module": lambda g: f"gt.Genotype{str(g).removeprefix('Genotype')}",
    "two modules": lambda g: f"x = darts.cnn.{g}",
    "single quotes": lambda g: f"'{str(g).replace(chr(39), chr(34))}'",
    "double quotes": lambda g: f'"{g}"',
    "a repr of a repr": lambda g: repr(repr(str(g))),
    "backquotes": lambda g: f"`{g}`",
    "JSON of the text": lambda g: json.dumps(str(g)),
    "JSON in quotes": lambda g: f"'{g.to_json()}'",
    "typographic quotes": lambda g: str(g).replace("('", "(\u2018").replace("',", "\u2019,"),
    "spaces of a web page": lambda g: f"\ufeff{g}".replace(" ", "\u00a0"),
    "a log": lambda g: LOG.format(g),
    "the same twice in a log": lambda g: LOG.format(g) * 2,
    "a line of a log": lambda g: LOG.format(g).splitlines()[1],
    "a Python list of texts": lambda g: f"config = {{'genotype': {g}, 'seed': 2}}",
    "a comment behind": lambda g: f"{g}  # the best one",
    "line breaks": lambda g: str(g).replace("), ", "),\n    "),
    "a definition before": lambda g: f"Genotype = namedtuple('Genotype', 'normal')\n\nclass Genotype(object): ...\nX = {g}",
    "NumPy's numbers": numpy_numbers,
    "a log of JSON": lambda g: json.dumps({"epoch": 3, "genotype": str(g)}),
    "lines of JSON": lambda g: (json.dumps({"epoch": 3, "genotype": str(g).replace("'", '"')}) + "\n") * 2,
    "JSON in JSON": lambda g: json.dumps({"best": {"genotype": json.loads(g.to_json())}, "epoch": 2}),
    "text of JSON in JSON": lambda g: json.dumps({"best": {"genotype": g.to_json()}}),
    "JSON in a list": lambda g: f"[{g.to_json()}]",
    "JSON assigned": lambda g: f"genotype = {g.to_json()}",
    "JSON in a log": lambda g: LOG.format(json.dumps(json.loads(g.to_json()), indent=1)),
    "JSON beside alphas": lambda g: json.dumps(
        {"alphas": {"normal": [[0.5]], "reduce": [[0.5]]}, "genotype": json.loads(g.to_json())}
    ),
    "text beside alphas": lambda g: json.dumps({"alphas": {"normal": [[0.5]], "reduce": [[0.5]]}, "genotype": str(g)}),
    "a dictionary": as_dict,
    "a dictionary assigned": lambda g: f"BEST = {as_dict(g)}  # (it",
    "a dictionary's call": as_call,
    "a dictionary's call assigned": lambda g: f"BEST = {as_call(g)}\n",
    "a list of a range": lambda g: re.sub(r"(range\(.*?\))", r"list(\1)", str(g)),
    "a tuple of a range": lambda g: re.sub(r"(range\(.*?\))", r"tuple(\1)", str(g)),
    "a range unpacked": lambda g: re.sub(r"(range\(.*?\))", r"[*\1]", str(g)),
    "a set of states": lambda g: str(g).replace("range(2, 6)", "{2, 3, 4, 5}"),
    "a comment with a bracket": lambda g: str(g).replace("), ", "),  # see (a, it's\n", 2),
    "colours": lambda g: f"\x1b[32mgenotype\x1b[0m = {g}".replace("concat", "\x1b[1;31mconcat\x1b[m"),
    "a web page's quotes": lambda g: html.escape(str(g)),
    "a web page's apostrophes": lambda g: html.escape(g.to_json().replace('"', "'")),
    "bytes": lambda g: str(g).replace("('", "(b'"),
    "a text with escaped quotes": lambda g: "x = '" + str(g).replace("'", "\\'") + "'",
    "Windows' line ends": lambda g: LOG.format(g).replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("genotype", [zoo.DARTS_V2, zoo.DARTS_V2_RECURRENT], ids=["images", "text"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_that_are_read(form, genotype, tmp_path):
    pasted = form(genotype)
    assert parse_genotype(pasted) == parse_genotype(pasted, type(genotype)) == genotype
    assert find_any_genotype(pasted) == find_genotype(pasted, type(genotype)) == genotype
    (tmp_path / "pasted").write_text(pasted)
    assert find_any_genotype(str(tmp_path / "pasted")) == genotype
    assert len(genotype_label(pasted, zoo.CELLS)) == 8


@pytest.mark.parametrize("form", [pt_darts, katib])
def test_a_list_for_each_node(form):
    assert parse_genotype(form(zoo.DARTS_V1)) == zoo.DARTS_V1
    fields = json.loads(zoo.DARTS_V1.to_json())
    in_nodes = fields | {kind: nodes(fields[kind]) for kind in ("normal", "reduce")}
    assert parse_genotype(json.dumps(in_nodes)) == Genotype(**in_nodes) == zoo.DARTS_V1
    recurrent = [[edge] for edge in zoo.ENAS.recurrent]
    assert RecurrentGenotype(recurrent, zoo.ENAS.concat) == zoo.ENAS  # pyright: ignore[reportArgumentType]
    one, three = [("noise", 0)], [("noise", 0), ("noise", 1), ("noise", 2)]
    assert parse_genotype(f"Genotype({[one, one]}, [2], {[one]}, [2])", Genotype).edges_per_node == 1
    assert parse_genotype(f"Genotype({[three[:2], three]}, [2], {[three[:2]]}, [2])", Genotype).edges_per_node == 3
    with pytest.raises(InputError, match="normal has nodes of 1 edges; give each 2"):
        Genotype([one], [2], [one], [2], edges_per_node=2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="normal has nodes of 2, 1 edges; give each 2"):
        parse_genotype(f"Genotype({[three[:2], one]}, [2], {[three[:2]]}, [2])")


@pytest.mark.parametrize("genotype", [zoo.DARTS_V2, zoo.ENAS])
def test_commands_take_what_people_paste(genotype, derive, describe, tmp_path):
    for text in (f"x = gt.{genotype}", f"'{genotype.to_json()}'"):
        assert derive(text) == (0, f"{genotype}\n", "")
    small = ("--cells", 3) if isinstance(genotype, Genotype) else ()
    code, out, err = describe(f"x = gt.{genotype}", *small)
    assert (code, err) == (0, "") and out.startswith(f"{genotype}\n")
    (tmp_path / "log").write_text(LOG.format(genotype))
    assert derive(tmp_path / "log") == derive(f"{tmp_path}/log:2") == (0, f"{genotype}\n", "")
    assert derive(str(genotype), "--json") == (0, f"{genotype.to_json()}\n", "")
    code, _, err = derive(str(genotype), "--edges-per-node", 2)
    assert code == 2 and "leave it out" in err


#: As an editor breaks it.
LINES = str(zoo.DARTS_V1).replace("), ", "),\n  ")
FILE = f"""from collections import namedtuple

Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')

NASNet = {zoo.NASNet}
DARTS_V1 = {LINES}
DARTS_V2 = {zoo.DARTS_V2}
CELL = {zoo.ENAS}

DARTS = DARTS_V2
"""


def test_one_of_several_is_named(tmp_path):
    path = tmp_path / "genotypes.py"
    path.write_text(f"\n\n{FILE}")
    with pytest.raises(
        InputError, match=r"several are given, NASNet, DARTS_V1, DARTS_V2; .*; give .*genotypes\.py:NAME"
    ):
        find_genotype(str(path))
    assert find_genotype(str(path), RecurrentGenotype) == zoo.ENAS
    with pytest.raises(InputError, match="several are given, NASNet, DARTS_V1, DARTS_V2, CELL"):
        find_any_genotype(str(path))
    for name, expected in {"DARTS_V1": zoo.DARTS_V1, "DARTS": zoo.DARTS_V2, "7": zoo.NASNet, "CELL": zoo.ENAS}.items():
        assert find_any_genotype(f"{path}:{name}") == expected
    with pytest.raises(
        InputError, match=r"genotypes\.py: genotype: there is none with the name or in the line 'PDARTS'"
    ):
        find_genotype(f"{path}:PDARTS")
    assert genotype_label(f"{path}:DARTS_V1", zoo.CELLS) == "genotypes-DARTS_V1"


def test_several_in_a_log_are_told_by_their_lines(tmp_path):
    log = LOG.format(zoo.DARTS_V1) + LOG.format(zoo.DARTS_V2)
    with pytest.raises(
        InputError, match=r"several are given, 2 of them, in the lines 2, 5; name the one that is meant"
    ):
        parse_genotype(log)
    assert parse_genotype(log, name="5") == zoo.DARTS_V2
    long = "".join(LOG.format(zoo.DARTS_V1).replace("range(2, 6)", str([2, 3, 4, n % 2])) for n in range(2000))
    long += "".join(LOG.format(zoo.DARTS_V1).replace("'sep_conv_3x3', 0", "'noise', 0", n) for n in range(20))
    with bounded(), pytest.raises(InputError, match=r"5 of them, in the lines 2, 5, 6002, .*; name") as caught:
        parse_genotype(long)
    assert len(str(caught.value)) < 220


def test_one_that_is_damaged_is_not_passed_over():
    text = FILE.replace("sep_conv_5x5", "sep_conv_9x9").replace(f"DARTS_V2 = {zoo.DARTS_V2}", "")
    with pytest.raises(InputError, match="several are given, NASNet, DARTS_V1; name"):
        parse_genotype(text, Genotype)
    with pytest.raises(InputError, match="unknown operation 'sep_conv_9x9' in normal"):
        parse_genotype(text, name="NASNet")


V1, V2 = str(zoo.DARTS_V1), str(zoo.DARTS_V2)


def test_one_that_is_damaged_by_position_is_not_passed_over():
    damaged = re.sub(r"\w+=", "", V2).replace("sep_conv_3x3", "sep_conv_9x9")
    for text in (damaged, damaged.replace("[", "(").replace("]", ")")):
        with pytest.raises(InputError, match="several are given, A, B; name"):
            parse_genotype(f"A = {text}\nB = {V1}")
        assert parse_genotype(f"A = {text}\nB = {V1}", name="B") == zoo.DARTS_V1
    assert parse_genotype(f"def derive(): return Genotype(cell, concat)\n{V1}") == zoo.DARTS_V1


@pytest.mark.parametrize("form", [str, as_dict, as_call, Genotype.to_json])
def test_one_that_is_cut_off_is_not_passed_over(form, tmp_path):
    whole, path = form(zoo.DARTS_V2), tmp_path / "log"
    for length in range(max(len("Genotype("), whole.index("normal") + len("normal': ")), len(whole), 7):
        cut = whole[:length]
        for text, line, other in (
            (f"{V1}\n{cut}", 2, "1"),
            (f"{cut}\n{V1}\n", 1, "2"),
            (f"x = {V1}\ny = {cut}", 2, "x"),
        ):
            path.write_text(text)
            with pytest.raises(
                InputError, match=f"in line {line} is cut off; name the one .*; give .*log:NAME or .*:LINE"
            ):
                find_any_genotype(str(path))
            assert parse_genotype(text, name=other) == find_any_genotype(f"{path}:{other}") == zoo.DARTS_V1
            with pytest.raises(InputError, match=f"in line {line} is cut off; give all of it"):
                parse_genotype(text, name=str(line))
        with pytest.raises(InputError, match="in line 1 is cut off; give all of it"):
            parse_genotype(cut)


def test_one_that_a_recurrent_cell_cuts_off_is_not_passed_over():
    with pytest.raises(InputError, match="in line 1 is cut off; name the one"):
        parse_genotype(f"{V1[:60]}\nRecurrent{zoo.ENAS}")


@pytest.mark.parametrize("form", [str, as_dict, as_call, Genotype.to_json])
def test_pieces_of_one_are_not_passed_over(form):
    whole = form(zoo.DARTS_V2)
    pieces = [whole[start:] for start in range(1, len(whole) // 2, 7)]
    pieces += [whole[:place] + bracket + whole[place:] for place in range(0, len(whole) - 1, 13) for bracket in ")}("]
    for piece in pieces:
        for text in (f"{V1}\n{piece}", f"{piece}\n{V1}"):
            with pytest.raises(InputError, match=r"cut off; name the one|several are given"):
                parse_genotype(text)


def test_a_different_one_late_in_a_log_is_seen():
    for log, line in (((V1 + "\n") * 10_001 + V2, 10_002), (f"{zoo.DARTS_V1.to_json()}\n" * 3000 + V2, 3001)):
        with bounded(), pytest.raises(InputError, match=f"several are given, 2 of them, in the lines 1, {line}; name"):
            parse_genotype(log)
        assert parse_genotype(log, name=str(line)) == zoo.DARTS_V2
    cut_off = V1 + "\n" + ("Genotype((((" + "x" * 2_100_000 + "\n") * 3 + V2
    with bounded(), pytest.raises(InputError, match="in line 2 is cut off; name"):
        parse_genotype(cut_off)
    assert parse_genotype(cut_off, name="5") == zoo.DARTS_V2


def test_more_than_are_read_are_refused():
    many = f"{V1}\n" + "Genotype()\n" * 50_000 + V2
    different = "".join(f"{V1} {' ' * n}\n".replace(" normal_concat", " " * n + "normal_concat") for n in range(1500))
    for log, line in ((many, 50_002), (different + V2, 1501)):
        with (
            bounded(),
            pytest.raises(InputError, match=r"the text is too long, .* name the one that is meant by its line"),
        ):
            parse_genotype(log)
        with bounded():
            assert parse_genotype(log, name=str(line)) == zoo.DARTS_V2


def test_nothing_but_the_error_is_printed(derive, recwarn):
    for text, words in {
        "Genotype(normal=1if 1else 2)": "normal is '1if 1else 2'",
        "DARTS_V3 " * 40: "is no run's folder, checkpoint or genotype",
    }.items():
        code, out, err = derive(text)
        assert (code, out) == (2, "") and err.startswith("error: ") and words in err
        assert len(err) < 200 and err.count("\n") == 1 and not recwarn.list


@pytest.mark.parametrize(
    "text", ["a" * 5000, "a/" * 3000, "'DARTS_V2", "Genotyp(normal=[", "x\0y", "a\nb", "(" * 300, "é" * 300]
)
def test_a_text_that_is_no_file_is_never_a_file_name(text, derive):
    for find in (find_any_genotype, find_genotype):
        with pytest.raises(InputError) as caught:
            find(text)
        message = str(caught.value)
        assert (
            "too long" not in message and ("no genotype" in message or "cannot read" in message) and len(message) < 500
        )
    if "\0" not in text:
        code, _, err = derive(text)
        assert (
            code == 2 and "traceback" not in err.lower() and err.count("\n") == text.count("\n") + 1 and len(err) < 6500
        )


@pytest.mark.parametrize("genotype", [zoo.DARTS_V2, zoo.ENAS])
def test_none_is_explained(genotype):
    first = (genotype.normal if isinstance(genotype, Genotype) else genotype.recurrent)[0][0]
    with pytest.raises(InputError, match=r"operation 'none' in .*: none means no edge"):
        parse_genotype(str(genotype).replace(first, "none", 1))


@pytest.mark.parametrize(
    "text",
    [
        f"Genotype(normal={[('noise', 0)] * 50_000}, normal_concat=[2], reduce=[], reduce_concat=[2])",
        json.dumps({"normal": [["noise", 0]] * 60_000, "normal_concat": [2], "reduce": [], "reduce_concat": [2]}),
        "Genotype(" * 100_000,
        "Genotype(normal='" * 60_000,
        "Genotype(normal=[])" * 50_000,
        f"Genotype(normal={'-' * 900_000}1)",
        f"Genotype(normal={'[' * 500_000}{']' * 500_000})",
        "[" * 1_000_000,
        '{"normal":' * 100_000,
        "'" * 1_000_000,
        "Genotype('" + "\\'" * 200_000,
        "Genotype('" + "\\'" * 200_000 + ")",
        "Genotype(" + "'\n" * 500_000,
        '{\\"normal\\":' * 20_000,
        "dict(normal=" * 20_000,
        ("a" * 99 + "." + "Genotype()") * 20_000,
        "Genotype" * 120_000,
        "x" * 1_000_000,
        " " * 1_000_000 + "Genotype" + " " * 1_000_000 + "(",
    ],
    ids=range(19),
)  # fmt: skip
def test_texts_of_a_megabyte_are_refused_at_once(text, tmp_path):
    (tmp_path / "text").write_text(text)
    for read in (parse_genotype, find_any_genotype, lambda text: find_genotype(str(tmp_path / "text"))):
        with bounded(), pytest.raises(InputError) as caught:
            read(text)
        assert len(str(caught.value)) < 500


def test_damaged_texts_are_read_or_refused(tmp_path):
    for form in (str, pt_darts, lambda g: FILE, lambda g: g.to_json(), numpy_numbers):
        for text in damaged_texts(form(zoo.DARTS_V2), 80):
            with bounded():
                try:
                    assert isinstance(parse_genotype(text), (Genotype, RecurrentGenotype))
                except InputError as error:
                    assert len(str(error)) < 500
                    str(error).encode()


@pytest.mark.parametrize(
    ("text", "expected"), [("''", ""), ("'a'", "a"), ("'", "'"), ("\"'b'\"", "b"), ("'a\"", "'a\"")]
)
def test_quotes_around_a_text_are_left_out(text, expected):
    assert plain_text(text) == expected
