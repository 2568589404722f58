"""YAML that says one thing to people and another to its reader is refused,
in files and on the command line.
"""

import pytest
import yaml

from ppl_vae import cli
from ppl_vae.runs.safe_yaml import YamlError, load_yaml


@pytest.mark.parametrize(
    "text",
    [
        "epochs: 010",
        "size: [8, 017]",
        "n: -0777",
        "epochs: 1:30",
        "rate: 1:30.5",
        "{n: {m: 0_12}}",
        "010: a",
        "&a 012",
    ],
)
def test_numbers_in_another_base_are_refused(text):
    with pytest.raises(YamlError, match=r"base (8|60).*in quotes"):
        load_yaml(text)


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" * 5000, "-" + "9" * 50, "0b" + "1" * 90])
def test_a_whole_number_that_python_would_not_print_is_refused(number):
    with pytest.raises(YamlError, match=rf"{number[:20]}\.\.\. is a whole number of [\d,]+ digits"):
        load_yaml(f"epochs: {number}")
    assert load_yaml(f"text: '{number}'") == {"text": number}


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{b: {a: 1, 'a': 2}}", "- {a: [1], c: 2, a: [2]}", "a: {x: 1}\nb: 2\na: {y: 1}"]
)
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(YamlError, match="'a' stands in it twice"):
        load_yaml(text)


def test_what_is_meant_is_read():
    text = (
        "a: 0x10\nb: 1_000\nc: '010'\nd: '1:30'\ne: 07\nf: 0\ng: 0.5\nh: {a: 1, b: 2}\n"
        "i: [a, a, a]\nj: 00\nk: 09"
    )
    assert load_yaml(text) == {
        "a": 16, "b": 1000, "c": "010", "d": "1:30", "e": 7, "f": 0, "g": 0.5, "h": {"a": 1, "b": 2},
        "i": ["a"] * 3, "j": 0, "k": "09",
    }  # fmt: skip
    assert load_yaml("a: &x {n: 1}\nb: {<<: *x, m: 2}")["b"] == {"n": 1, "m": 2}
    values = {"names": ["010", "1:30", "0x10", "2001-01-01"], "n": 8}
    assert load_yaml(yaml.safe_dump(values)) == values


@pytest.mark.parametrize(
    "words", [["--epochs", "1:30"], ["--learning_rate=1:30.5"], ["--load.image_size", "[8, 010]"]]
)
def test_such_numbers_among_the_words_are_refused(words, capsys):
    assert cli.main(["train", "--data", "nowhere.npz", *words]) == 2
    told = capsys.readouterr().err
    assert words[0].partition("=")[0] in told
    assert "base" in told
