"""The command line: what is asked for, what the space says where nothing is, and how to go on later."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_tl.driver import options
from tune_tl.driver.options import DEFAULT_BUDGET_S, Options
from tune_tl.errors import BadInput
from tune_tl.spaces import reading
from tune_tl.tuning.strategies import STRATEGIES


def parse(*words: object) -> Options:
    return options.decide(options.parser().parse_args([str(word) for word in words]))


def refused(*words: object) -> str:
    with pytest.raises(BadInput) as error:
        parse(*words)
    assert "\n" not in str(error.value)
    return str(error.value)


def space(folder: Path, **settings: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text("backbone: resnet18\n" + "".join(f"{k}: {v}\n" for k, v in settings.items()))
    return path


def test_what_is_not_asked_for_the_space_says() -> None:
    given, of_space = parse("garbage"), reading.load("garbage")[0]
    assert given.experiment("x").strategy == of_space.strategy
    assert (given.trials, given.budget_s) == (of_space.trials, of_space.budget_s)
    assert given.space.epochs == of_space.epochs
    assert (given.seed, given.output, given.tracking_uri) == (0, Path("runs"), None)
    assert (given.resume, given.retry_failed, given.yes, given.name, given.data) == (
        False, False, False, None, None,
    )  # fmt: skip


def test_trials_asked_for_switch_the_spaces_budget_off_and_the_reverse(tmp_path: Path) -> None:
    path = space(tmp_path, trials=5, budget="10m")
    assert (parse(path).trials, parse(path).budget_s) == (5, 600)
    assert (parse(path, "--trials", 3).trials, parse(path, "--trials", 3).budget_s) == (3, None)
    assert (parse(path, "--budget", "9s").trials, parse(path, "--budget", "9s").budget_s) == (None, 9)
    both = parse(path, "--trials", 3, "--budget", "1h")
    assert (both.trials, both.budget_s) == (3, 3600)


def test_a_search_always_ends(tmp_path: Path) -> None:
    given = parse(space(tmp_path))
    assert (given.trials, given.budget_s) == (None, DEFAULT_BUDGET_S)


def test_epochs_and_seed_reach_every_config(tmp_path: Path) -> None:
    import optuna

    given = parse(space(tmp_path, seed="[1, 2]", epochs=9), "--epochs", 2, "--seed", 77)
    study = optuna.create_study()
    drawn = [given.space.suggest(study.ask(), {"resnet18": 5}) for _ in range(5)]
    assert {(config.epochs, config.seed) for config in drawn} == {(2, 77)}
    assert given.experiment("x").seed == 77


def test_a_seed_in_the_space_holds_where_none_is_asked_for(tmp_path: Path) -> None:
    path = space(tmp_path, seed=5)
    assert (parse(path).seed, parse(path).space.seed) == (5, 5)
    assert (parse(path, "--seed", 0).seed, parse(path, "--seed", 0).space.seed) == (0, 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_can_be_asked_for(strategy: str, tmp_path: Path) -> None:
    assert parse("garbage", "--strategy", strategy).strategy == strategy
    assert parse(space(tmp_path, strategy=strategy)).strategy == strategy


def test_output_is_absolute_for_workers_that_run_elsewhere() -> None:
    assert parse("garbage").experiment("x").folder == Path.cwd() / "runs" / "x"


def test_a_folder_whose_name_is_all_dashes_can_be_resumed() -> None:
    command = parse("garbage", "--output=./--", "--data=./-x").resume_command("x")
    again = parse(*shlex.split(command)[3:])
    assert (again.output, again.data) == (Path("--"), Path("-x"))


def test_a_folder_as_the_space_is_the_data_unless_another_is_given(tmp_path: Path) -> None:
    pictures, others = tmp_path / "pictures", tmp_path / "others"
    pictures.mkdir()
    assert parse(pictures).data == pictures
    assert parse(pictures, "--data", others).data == others


def test_the_home_folder_is_understood_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = parse("garbage", "--data", "~/pics", "--output", "~/out")
    assert (given.data, given.output) == (tmp_path / "pics", tmp_path / "out")


@pytest.mark.parametrize(
    "words",
    [
        ("--trials", "0"), ("--trials", "-1"), ("--trials", "1.5"), ("--trials", "x"),
        ("--trials", "9" * 5000),
        ("--epochs", "0"), ("--epochs", "٣x"),
        ("--seed", "-1"), ("--seed", "4294967296"), ("--seed", "1e3"),
        ("--budget", "nonsense"), ("--budget", ""), ("--budget", "0"), ("--budget", "1h30"),
        ("--strategy", "asha"),
        ("--cpus-per-trial", "x"), ("--cpus-per-trial", "nan"), ("--gpus-per-trial", "-1"),
        ("--gpus-per-trial", "inf"),
        ("--data", ""), ("--data", "~nobody-of-this-name/x"), ("--output", ""),
        ("--tracking-uri", "mlruns"), ("--tracking-uri", "ftp://x"),
        ("--name", "x", "surplus"), ("--no-such-option",), ("--name",),
    ],
    ids=lambda words: " ".join(words)[:40],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_named_in_one_line(words: tuple[str, ...]) -> None:
    assert words[-1] in refused("garbage", *words)


def test_the_way_to_the_right_spelling_is_told(tmp_path: Path) -> None:
    assert "SPACE" in refused()
    assert all(name in refused("garbage", "--strategy", "asha") for name in STRATEGIES)
    message = refused(space(tmp_path, strategy="asha-tp"))
    assert "mine.yaml" in message
    assert "did you mean 'asha-tpe'" in message


ODD = (
    st.text("ab é'\"$`\\&;~#*()[]-=é漢", min_size=1, max_size=12)
    .filter(lambda s: s[0] != "~")
    .map(lambda s: f"./{s}")
)
SHARES = st.sampled_from(["0.25", "0.5", "1", "2", "1.5"])


def flag(name: str, values: st.SearchStrategy[object]) -> st.SearchStrategy[list[str]]:
    return st.just([]) | values.map(lambda value: [f"{name}={value}"])


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(
        flag("--trials", st.integers(1, 10**9)),
        flag("--budget", st.sampled_from(["90s", "10m", "1h30m", "400h", "0.5s", "1234567s", "90061.125s"])),
        flag("--epochs", st.integers(1, 10**6)),
        flag("--strategy", st.sampled_from(sorted(STRATEGIES))),
        flag("--seed", st.integers(0, 2**32 - 1)),
        flag("--data", ODD),
        flag("--output", ODD),
        flag("--tracking-uri", st.sampled_from(["sqlite:///other.db", "http://localhost:5000"])),
        flag("--address", st.sampled_from(["auto", "10.0.0.1:6379"])),
        flag("--cpus-per-trial", SHARES),
        flag("--gpus-per-trial", SHARES),
        st.sampled_from([[], ["--yes"]]),
    ).map(lambda flags: [word for words in flags for word in words]),
    st.sampled_from(["garbage", "default", "folder", "yaml", "seeded", "many seeds"]),
    st.sampled_from(["x", "my search", "été-1.2"]),
)
def test_the_resume_command_asks_for_the_same_search(
    tmp_path_factory: pytest.TempPathFactory, flags: list[str], kind: str, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / 'it\'s [a] "folder" é'
    folder.mkdir(exist_ok=True)
    seed = {"seeded": {"seed": 5}, "many seeds": {"seed": [1, 2]}}.get(kind, {})
    argument = {"folder": folder}.get(kind) or (
        kind if kind in reading.available() else space(folder, trials=3, **seed)
    )
    given = parse(argument, *flags)
    words = shlex.split(given.resume_command(name))
    assert words[:3] == ["python", "-m", "tune_tl.search"]
    assert parse(*words[3:]) == replace(given, name=name, resume=True)
