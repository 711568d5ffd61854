"""Search spaces: what a YAML file may say, what is drawn from it, and what is said of a wrong one."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_tl.errors import BadInput
from tune_tl.experiment import CONFIG_FIELDS, Transfer, TrialConfig
from tune_tl.spaces import reading
from tune_tl.spaces.reading import SETTINGS
from tune_tl.spaces.space import OF_TRANSFER, Space
from tune_tl.training.augment import POLICIES
from tune_tl.training.backbones import BACKBONES
from tune_tl.tuning.strategies import STRATEGIES

SHIPPED = sorted(reading.available())
UNUSED_WIDTH = TrialConfig("").head_width
STAGES = {name: len(backbone.stages) for name, backbone in BACKBONES.items()}
WIDE = """
backbone: [resnet18, mobilenet_v2, small_resnet]
pretrained: [true, false]
drop_stages: [0, 1]
unfreeze: [0, 1, 5, all]
head_layers: {low: 1, high: 3}
head_width: [16, 64]
head_lr: {low: 1e-4, high: 1e-2, log: true}
body_lr: {low: 1e-5, high: 1e-3, log: true}
weight_decay: [0.0, 1e-2]
batch_size: {low: 8, high: 64}
image_size: [null, 64]
class_weights: [false, true]
seed: [0, 1, 2]
epochs: 3
"""


def study(seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes) -> Space:
    space, data = reading.load(str(written(folder, text)))
    assert data is None
    return space


def refused(folder: Path, text: str | bytes) -> str:
    """The one line that is said of a wrong space; it always names the file."""
    path = written(folder, text)
    with pytest.raises(BadInput) as error:
        reading.load(str(path))
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> Space:
    return reading.load(request.param)[0]


def test_a_shipped_space_opens_with_the_command_that_runs_it(shipped: Space) -> None:
    command = shipped.path.read_text(encoding="utf-8").splitlines()[0]
    argument = "path/to/folder" if shipped.name == reading.DEFAULT else shipped.name
    assert command == f"# python -m tune_tl.search {argument}"


def test_a_shipped_space_names_backbones_and_a_strategy_that_exist_and_an_end(shipped: Space) -> None:
    assert set(shipped.backbones) <= BACKBONES.keys()
    assert shipped.strategy in STRATEGIES
    assert shipped.trials or shipped.budget_s


def test_the_known_good_points_of_a_shipped_space_are_proposed_exactly(shipped: Space) -> None:
    assert shipped.first
    asked = study()
    for point in shipped.first:
        assert all(value in shipped.domains[key] for key, value in point.items())
        asked.enqueue_trial(dict(point))
    for point in shipped.first:
        drawn = shipped.suggest(asked.ask(), STAGES).to_dict()
        assert {key: drawn[key] for key in point} == dict(point)


def test_every_draw_is_a_config_within_the_space(shipped: Space) -> None:
    asked = study()
    for _ in range(200):
        config = shipped.suggest(asked.ask(), STAGES)
        assert TrialConfig.from_dict(config.to_dict()) == config
        scratch = BACKBONES[config.backbone].scratch
        assert scratch == (config.transfer is Transfer.SCRATCH)
        for field, value in config.to_dict().items():
            if field not in ("body_lr", "unfreeze", *(("pretrained", *OF_TRANSFER) if scratch else ())):
                assert value in shipped.domains[field] or (field, value) == ("head_width", UNUSED_WIDTH)
        assert config.unfreeze == "all" or 0 <= config.unfreeze < STAGES[config.backbone]


def test_a_body_learning_rate_is_drawn_only_where_something_is_unfrozen(shipped: Space) -> None:
    asked = study()
    for _ in range(100):
        trial = asked.ask()
        config = shipped.suggest(trial, STAGES)
        assert (config.unfreeze != 0) == (config.body_lr is not None)
        assert ("body_lr" in trial.params) == (config.unfreeze != 0 and config.pretrained)


def test_the_width_of_layers_is_drawn_only_where_there_are_some(tmp_path: Path) -> None:
    space, asked = load(tmp_path, WIDE), study()
    for _ in range(50):
        trial = asked.ask()
        config = space.suggest(trial, STAGES)
        assert ("head_width" in trial.params) == (config.head_layers > 1)


def test_of_a_network_that_starts_from_nothing_only_its_training_is_drawn(tmp_path: Path) -> None:
    space, asked, seen = load(tmp_path, WIDE), study(), set()
    for _ in range(100):
        trial = asked.ask()
        config = space.suggest(trial, STAGES)
        assert ("pretrained" in trial.params) == (config.backbone != "small_resnet")
        if not config.pretrained:
            seen.add(config.backbone)
            assert not trial.params.keys() & set(OF_TRANSFER)
            assert (config.unfreeze, config.body_lr) == ("all", config.head_lr)
            assert (config.drop_stages, config.head_layers, config.image_size) == (0, 1, None)
    assert seen == {"resnet18", "mobilenet_v2", "small_resnet"}


@pytest.mark.parametrize(
    ("image_size", "pretrained", "sizes"),
    [
        ("null", "true", {"resnet18": {224}, "tank_cnn": {40}}),
        ("[null, 96]", "true", {"resnet18": {224, 96}, "tank_cnn": {40}}),
        ("[96, 128]", "true", {"resnet18": {96, 128}, "tank_cnn": {40}}),
        ("[96, 128]", "[true, false]", {"resnet18": {96, 128, 224}, "tank_cnn": {40}}),
        ("64", "[true, false]", {"resnet18": {64}, "tank_cnn": {64}}),
    ],
)
def test_images_are_wanted_at_the_sizes_that_trials_ask_for(
    tmp_path: Path, image_size: str, pretrained: str, sizes: dict[str, set[int]]
) -> None:
    text = f"backbone: [resnet18, tank_cnn]\nimage_size: {image_size}\npretrained: {pretrained}"
    space, asked = load(tmp_path, text), study()
    assert {name: space.sizes(BACKBONES[name]) for name in sizes} == sizes
    asked_for: dict[str, set[int]] = {name: set() for name in sizes}
    for _ in range(60):
        config = space.suggest(asked.ask(), STAGES)
        asked_for[config.backbone].add(config.image_size or BACKBONES[config.backbone].size)
    assert asked_for == sizes


@pytest.mark.parametrize(("depth", "becomes"), [(1, 1), (4, 4), (5, "all"), (9, "all"), ("all", "all")])
def test_a_cut_as_deep_as_the_network_is_full_fine_tuning(tmp_path: Path, depth: Any, becomes: Any) -> None:
    space = load(tmp_path, f"backbone: resnet18\nunfreeze: {depth}\nbody_lr: 1e-4")
    assert STAGES["resnet18"] == 5
    assert space.suggest(study().ask(), STAGES).unfreeze == becomes


@pytest.mark.parametrize("name", [*SHIPPED, "wide", "range of depths", "held"])
def test_a_point_leads_back_to_the_config_it_was_made_from(tmp_path: Path, name: str) -> None:
    if name in SHIPPED:
        space, _ = reading.load(name)
    elif name == "range of depths":
        space = load(tmp_path, WIDE.replace("[0, 1, 5, all]", "{low: 0, high: 8}"))
    else:
        space = load(tmp_path, WIDE)
    if name == "held":
        space = space.fixed(seed=7, epochs=1).with_backbones(["resnet18"])
    drawing, replaying = study(1), study(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of an enqueued value that it does not take
        for _ in range(150):
            config = space.suggest(drawing.ask(), STAGES)
            replaying.enqueue_trial(space.point(config))
            assert space.suggest(replaying.ask(), STAGES) == config


def test_a_number_without_a_dot_is_a_number(tmp_path: Path) -> None:
    assert yaml.safe_load("1e-4") == "1e-4"  # YAML 1.1 takes it for text
    space = load(tmp_path, "backbone: resnet18\nhead_lr: 1e-4\nweight_decay: [1e-3, 0.1]")
    config = space.suggest(study().ask(), STAGES)
    assert config.head_lr == 0.0001
    assert config.weight_decay in (0.001, 0.1)


def test_what_a_space_leaves_out_is_what_a_trial_config_says(tmp_path: Path) -> None:
    space = load(tmp_path, "backbone: resnet18")
    assert space.suggest(study().ask(), STAGES) == TrialConfig("resnet18")
    assert (space.name, space.trials, space.budget_s, space.first) == ("mine", None, None, ())


def test_a_space_of_its_own_trial_seeds_keeps_them(tmp_path: Path) -> None:
    assert load(tmp_path, "backbone: resnet18\nseed: 5").seed == 5
    assert load(tmp_path, WIDE).seed is None


def test_backbones_that_leave_the_space_take_their_points_along() -> None:
    space, _ = reading.load("default")
    kept = space.with_backbones(["mobilenet_v2"])
    assert kept.backbones == ("mobilenet_v2",)
    assert kept.first
    assert {point["backbone"] for point in kept.first} == {"mobilenet_v2"}


def test_a_data_path_in_a_space_counts_from_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "backbone: a\ndataset: ../pics").dataset == str(tmp_path.parent / "pics")
    assert load(tmp_path, "backbone: a\ndataset: garbage").dataset == "garbage"


def test_a_plain_folder_gets_the_default_space(tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    space, data = reading.load(str(folder))
    assert (space.name, data) == ("my pictures", folder)
    assert space.domains == reading.load("default")[0].domains


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("garbge", "did you mean 'garbage'?"),
        ("no/such.yaml", "no such file"),
        ("", "unknown search space ''"),
        ("~nobody-of-this-name/x", "'~nobody-of-this-name/x'"),
        ("x" * 300, "name too long"),
        ("two\nlines", "no text"),
        ("caf\udce9.yaml", "no text"),
    ],
)
def test_an_argument_that_names_no_space_is_refused(argument: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        reading.load(argument)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", [*SETTINGS, *CONFIG_FIELDS])
def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path, key: str) -> None:
    message = refused(tmp_path, f"backbone: resnet18\n{key}x: 1")
    assert f"'{key}x'" in message
    assert f"'{key}'" in message.partition("did you mean")[2].partition("?")[0]


WHOLE_FROM_1 = ("head_layers", "head_width")
NUMBERS = ("head_lr", "body_lr", "weight_decay", "label_smoothing")
WHOLE = ("batch_size", "epochs", "seed", "unfreeze", "image_size", "drop_stages", *WHOLE_FROM_1)
WRONG = [
    *((field, value) for field in CONFIG_FIELDS for value in ("[]", "{low: 1}", "{a: 1}", "[[1]]")),
    *((field, value) for field in NUMBERS for value in ("-0.1", ".nan", ".inf", "x", "true", "99")),
    *((field, value) for field in WHOLE for value in ("-1", "1.5", "x", "true", ".nan", "9" * 30)),
    *((field, "null") for field in ("head_lr", "batch_size", "backbone", "augment", "epochs", "seed")),
    ("backbone", "3"),
    ("backbone", "{low: a, high: b}"),
    ("head_lr", "0"),
    ("head_lr", "{low: 1e-2, high: 1e-4}"),
    ("head_lr", "{low: 1e-4, high: 1e-2, log: 3}"),
    ("head_lr", "{low: 1e-4, high: 1e-2, step: 2}"),
    ("head_lr", "{low: .nan, high: 1e-2}"),
    ("weight_decay", "{low: 0, high: 0.1, log: true}"),
    ("body_lr", "{low: 1e-4, high: null}"),
    ("unfreeze", "{low: 0, high: all}"),
    ("unfreeze", "{low: all, high: 3}"),
    ("label_smoothing", "1"),
    *((field, "0") for field in WHOLE_FROM_1),
    *((field, value) for field in ("pretrained", "grayscale", "clean") for value in ("1", "maybe", "null")),
    ("pretrained", "{low: false, high: true}"),
    ("class_weights", "1"),
    ("class_weights", "maybe"),
    ("class_weights", "{low: false, high: true}"),
    ("augment", "mild"),
    ("augment", "{low: none, high: strong}"),
    ("batch_size", "1"),
    ("batch_size", "0x" + "f" * 5000),
    ("image_size", "8"),
    ("image_size", "{low: 64, high: 128}"),
    ("epochs", "0"),
    ("epochs", "[1, 2]"),
    ("epochs", "{low: 1, high: 2}"),
    ("seed", "4294967296"),
    ("trials", "0"),
    ("trials", "true"),
    ("trials", "many"),
    ("budget", "ten"),
    ("budget", "-5"),
    ("budget", "true"),
    ("budget", "[1]"),
    ("bad_images", "keep"),
    ("strategy", "[tpe]"),
    ("dataset", "[a]"),
    ("dataset", "5"),
    ("dataset", '""'),
    ("dataset", '"a/\\0"'),
    ("dataset", "~nobody-of-this-name/x"),
    ("first", "5"),
    ("first", "{backbone: resnet18}"),
    ("first", "[resnet18]"),
    ("first", "[{backbone: vgg16}]"),
    ("first", "[{head_lr: x}]"),
    ("first", "[{head_lrr: 1e-3}]"),
    ("first", "[{trials: 3}]"),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda text: text[:40])
def test_a_wrong_value_is_named_with_its_file_and_key(tmp_path: Path, key: str, value: str) -> None:
    base = {"backbone": "resnet18", "body_lr": "1e-4"} | {key: value}
    message = refused(tmp_path, "\n".join(f"{k}: {v}" for k, v in base.items()))
    assert key in message
    if value.isalnum() and value not in ("true", "null") and len(value) < 20:
        assert value in message


def test_the_policies_to_choose_from_are_told(tmp_path: Path) -> None:
    message = refused(tmp_path, "backbone: resnet18\naugment: mild")
    assert all(policy in message for policy in POLICIES)


@pytest.mark.parametrize("body", ["", "body_lr: null", "body_lr: [null, 1e-4]"])
def test_unfreezing_without_a_learning_rate_for_the_body_is_refused(tmp_path: Path, body: str) -> None:
    assert "body_lr" in refused(tmp_path, f"backbone: resnet18\nunfreeze: [0, 2]\n{body}")


def test_a_space_without_a_backbone_is_refused(tmp_path: Path) -> None:
    assert "`backbone` is missing" in refused(tmp_path, "epochs: 3")


LAUGHS = "\n".join(
    ["l0: &l0 [lol]", *(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))]
)


# Merge keys copy what they merge, where aliases only point to it: eleven lines for 9**11 pairs.
MERGED = "\n".join(
    ["m0: &m0 {x: 1}", *(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 12))]
)
MERGED_LESS = "\n".join(  # the most that is read at all
    [f"m0: &m0 {{{', '.join(f'k{n}: 1' for n in range(5000))}}}"]
    + [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 3)}]}}" for i in range(1, 4)]
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "", "just words", "- a\n- b", "5", "a: b: c", "a: [1", "\ttab: 1", "{[a]: 1}", "{{}: 1}",
        "backbone: !!python/object/apply:os.system ['true']",
        "backbone: !unknown x",
        "backbone: !!int x",
        "backbone: !!timestamp x",
        "backbone: !!bool x",
        "backbone: 2024-13-45",
        "backbone: 0b_",
        f"backbone: {'9' * 5000}",
        "backbone: *nowhere",
        "backbone: &a [*a]",
        "[" * 3000,
        LAUGHS, MERGED, MERGED_LESS, f"# {'x' * 60_000}\nbackbone: resnet18",
        f"? 0x{'f' * 5000}\n: 1", f"backbone: a\nfirst: [{{? 0x{'f' * 5000}\n: 1}}]",
        f"? {':'.join('1' * 9000)}\n: 1",
        f"{LAUGHS}\nbackbone: *l11",
        "\n".join(f"  {line}" if i else f"backbone:\n  {line}" for i, line in enumerate(LAUGHS.split("\n"))),
        b"\xff\xfe\x00", b"caf\xe9: 1", b"a: \x00",
    ],
    ids=lambda text: repr(text[:24]),
)  # fmt: skip
def test_a_file_that_is_no_space_gets_one_clear_line(tmp_path: Path, text: str | bytes) -> None:
    refused(tmp_path, text)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["all", "1e-4", "light", "10m", "drop"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["low", "high", "log", "backbone", "unfreeze", "x"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from([*SETTINGS, *CONFIG_FIELDS, "x"]), VALUES, max_size=5))
def test_whatever_values_a_space_holds_it_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(yaml.safe_dump({"backbone": "resnet18", **values}, allow_unicode=True), encoding="utf-8")
    try:
        space, _ = reading.load(str(path))
    except BadInput as error:
        assert str(path) in str(error)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            space.suggest(study().ask(), dict.fromkeys(space.backbones, 5))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text("{}[]&*!|>-:#'\"\n 0azé\t,?%@<", max_size=40).map(str.encode))
def test_whatever_bytes_a_file_holds_it_is_a_space_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as error:
        reading.load(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200), ("1h1s", 3601), ("0.5s", 0.5),
        (" 10M ", 600), ("1h30m5.5s", 5405.5), ("999999h", 999999 * 3600),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, wanted: float) -> None:
    assert reading.seconds(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["ten", "", " ", "-5m", "0", "0s", 0, "nan", "inf", math.nan, math.inf, "1e9h", "1.5h", "5 m", "m",
     "10m1h", "1h30", "10x", "9" * 400 + "h", "--5", "1,5s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_by_name(text: str | float) -> None:
    with pytest.raises(BadInput) as error:
        reading.seconds(text)
    assert repr(str(text)) in str(error.value)
    assert "10m" in str(error.value)


@pytest.mark.parametrize("number", ["5", 600, 1.5, "0.5"])
def test_a_duration_without_a_unit_is_refused(number: str | float) -> None:
    with pytest.raises(
        BadInput, match=f"^budget '{number}' has no unit; write {number}s, {number}m or {number}h$"
    ):
        reading.seconds(number)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("there/nothing", "no such folder or file: 'there/nothing'"),
        ("~/no_such_thing", "no such folder or file"),
        ("./garbage", "no such folder or file: './garbage'; garbage alone is the space of that name"),
        ("pets.zip", "'pets.zip' is an archive: unpack it, and give the folder"),
        ("pets.tar.gz", "is an archive: unpack it"),
        ("cat.jpg", "'cat.jpg' is a file; give a folder of class folders, or a YAML file"),
        ("garbge", "unknown search space 'garbge', did you mean 'garbage'?"),
    ],
)
def test_what_is_no_space_is_named_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pets.zip", "pets.tar.gz", "cat.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(BadInput) as error:
        reading.load(space)
    assert said in str(error.value)
