"""keras-gated list, show, diff and budget: what they print, and their exit status."""

import json

import pytest

import keras_gated as kg
from keras_gated.cli.main import main
from tests.helpers import says


def reported(capsys, *arguments: str, status: int = 0) -> dict:
    """The JSON that a command prints."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.catalogue
def test_every_preset_is_listed_with_its_counts(capsys):
    found = reported(capsys, "list", "--inputs", "5", "--units", "3")["cells"]
    assert [cell["name"] for cell in found] == list(kg.presets)
    uncounted = [cell["name"] for cell in found if cell["parameters"] is None]
    for name in uncounted:  # they see each input one to one
        with pytest.raises(ValueError, match="`units`.*units=3, input features=5"):
            kg.count_parameters(name, input_dim=5, units=3)
    for cell in found:
        if cell["name"] not in uncounted:
            assert cell["parameters"] == kg.count_parameters(cell["name"], input_dim=5, units=3)
            assert cell["flops"] == kg.count_flops(cell["name"], input_dim=5, units=3)
    assert 0 < len(uncounted) < 12
    operators = {cell["name"]: cell["onnx"] for cell in found}
    assert operators["lstm"] == "LSTM" and operators["gru"] == "GRU" and operators["fgr"] == "Scan"


def test_filters_leave_what_was_asked_for(capsys):
    every = reported(capsys, "list")["cells"]
    limit = sorted(cell["parameters"] for cell in every)[20]
    given = {"family": ["--family", "slim"], "states": ["--states", "1"]}
    given["parameters"] = ["--parameters", str(limit)]
    keep = {
        "family": lambda cell: cell["family"] == "slim",
        "states": lambda cell: len(cell["states"]) == 1,
        "parameters": lambda cell: cell["parameters"] <= limit,
    }
    for name, arguments in given.items():
        found = [cell["name"] for cell in reported(capsys, "list", *arguments)["cells"]]
        assert found == [cell["name"] for cell in every if keep[name](cell)]
        assert 0 < len(found) < len(every)


def test_a_table_for_people(capsys):
    assert main(["list", "--family", "slim"]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("│ slim_lstm6 ")]
    assert len(rows) == 1 and "three constant gates" in rows[0] and "8,256" in rows[0]
    assert "64 inputs, 64 units" in printed


def test_show_is_describe(capsys):
    for sizes in ("--input-dim 8 --units 4", "--inputs 8 --units 4", "8 4", "4 --input-dim 8"):
        assert main(["show", "mgu", *sizes.split()]) == 0
        assert capsys.readouterr().out.rstrip() == kg.describe("mgu", input_dim=8, units=4)
    assert main(["show", "mgu"]) == 0
    assert capsys.readouterr().out.rstrip() == kg.describe("mgu")
    found = reported(capsys, "show", "mgu", "--inputs", "8", "--units", "4")
    assert found["parameters"] == 104 and found["equations"] == kg.equations("mgu")


def test_diff_is_diff(capsys):
    assert main(["diff", "lstm", "lstm_peephole"]) == 0
    assert capsys.readouterr().out.rstrip() == str(kg.diff("lstm", "lstm_peephole"))
    found = reported(capsys, "diff", "lstm", "cifg")
    assert found.keys() == {"first", "second", "only_first", "only_second"}
    assert found["only_second"] == list(kg.diff("lstm", "cifg").only_second)


@pytest.mark.parametrize(
    ("pair", "nearest", "shared"),
    [
        ("lstm cifg", "lstm_peephole", "have: input peephole, output peephole."),
        ("cifg lstm", "lstm_peephole", "have: input peephole, output peephole."),
        ("lstm niaf", "lstm_peephole", "peephole"),
        ("gru mut3", "gru_chung", ""),
        ("lstm lstm_f", "lstm_1997", None),
        ("lstm levy_srnn", None, None),
        ("lstm_peephole cifg", None, None),
        ("nfg cifg", None, None),  # two variants
        ("lstm gru", None, None),  # two baselines
    ],
)
def test_diff_names_a_nearer_baseline(pair, nearest, shared, capsys):
    """Greff's variants have peepholes: compared with "lstm" they show little else."""
    assert main(["diff", *pair.split()]) == 0
    printed = capsys.readouterr().out.rstrip()
    text = str(kg.diff(*pair.split()))
    assert printed.startswith(text)
    hint = printed.removeprefix(text).strip()
    assert (nearest is None) == (not hint)
    if nearest:
        variant = next(name for name in pair.split() if kg.presets[name].family != "base")
        assert hint.endswith(f"keras-gated diff {nearest} {variant}")
        assert f"is nearer to {nearest} than to" in hint
        assert shared in hint if shared is not None else "have:" not in hint


@pytest.mark.parametrize(
    "arguments",
    [
        "--parameters 18000 --inputs 88",
        "--input-dim 88 --parameters 18000",
        "88 18000",
        "18000 --input-dim 88",
        "88 --parameters 18000",
    ],
)
def test_budget_takes_numbers_with_and_without_names(arguments, capsys):
    found = reported(capsys, "budget", "gru", *arguments.split())
    assert found["units"] == kg.units_for_budget("gru", 88, 18_000)
    assert found["parameters"] == kg.count_parameters("gru", 88, found["units"]) <= 18_000
    assert found.keys() == {"name", "inputs", "units", "parameters"} and found["inputs"] == 88


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "mgru"], "spec='mgru'...Did you mean"),
        (["diff", "lstm", "lstn"], "spec='lstn'...'lstm'"),
        (["budget", "gru", "--parameters", "5", "--inputs", "88"], "`parameters`...parameters=5"),
    ],
)
def test_errors_are_one_line_and_status_1(arguments, text, capsys):
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and says(printed.err, text) and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "--family", "slime"], "invalid choice: 'slime'"),
        (["list", "--units", "0"], "argument --units: invalid number > 0 value: '0'"),
        (["budget", "gru"], "required: input_dim, parameters"),
        (["budget", "gru", "88"], "required: parameters"),
        (["budget", "gru", "88", "0"], "argument PARAMETERS: invalid number > 0 value: '0'"),
        (["budget", "gru", "88", "18000", "7"], "unrecognized arguments: 7"),
        (
            ["budget", "gru", "88", "18000", "--inputs", "7"],
            "Received: 88, 18000 and also input_dim=7",
        ),
    ],
)
def test_wrong_usage_is_status_2(arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and text in capsys.readouterr().err
