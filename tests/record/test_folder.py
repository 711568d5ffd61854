"""A search's folder: what it is called, who holds it, what it was started on, which weights stay."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.images import cats_and_dogs
from tune_tl.data.folder import scan
from tune_tl.driver.observers import BestWeights
from tune_tl.driver.resuming import begin
from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, Experiment, State, TrialConfig, TrialResult
from tune_tl.preflight.ready import Ready
from tune_tl.record.folder import claimed, name_for, opened
from tune_tl.record.json_files import SEARCH_FILE, versions
from tune_tl.record.ledger import EPOCHS_FILE
from tune_tl.results.ranking import finalists
from tune_tl.spaces import reading
from tune_tl.storage import files
from tune_tl.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def search(output: Path, name: str, space: str = "garbage", age: float = 0) -> Path:
    """A search that was run before."""
    folder = output / name
    folder.mkdir(parents=True)
    (folder / SEARCH_FILE).write_text(json.dumps({"name": name, "space": space}))
    stat = (folder / SEARCH_FILE).stat()
    os.utime(folder / SEARCH_FILE, (stat.st_atime, stat.st_mtime - age))
    return folder


def refused(output: Path, name: str | None, *, resume: bool = False) -> str:
    with pytest.raises(BadInput) as error:
        name_for(output, name, "garbage", resume=resume)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_search_is_called_like_its_space_and_numbered_from_the_second(output: Path) -> None:
    for wanted in ("garbage", "garbage-2", "garbage-3"):
        assert name_for(output, None, "garbage", resume=False) == wanted
        search(output, wanted)
    assert not (output / "garbage-4").exists()  # a name is no folder yet


def test_a_name_that_is_taken_is_refused_with_the_way_on(output: Path) -> None:
    search(output, "mine")
    assert name_for(output, "other", "garbage", resume=False) == "other"
    message = refused(output, "mine")
    assert str(output / "mine") in message
    assert "--name" in message
    assert "--resume" in message


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/tmp/x",
        ".hidden",
        "-x",
        " x",
        "a\nb",
        "a\0b",
        "x" * 101,
        "漢" * 90,
        "a:b",
    ],
)
def test_a_name_that_is_no_plain_file_name_is_refused(output: Path, name: str) -> None:
    assert repr(name) in refused(output, name)
    assert repr(name) in refused(output, name, resume=True)
    assert not output.exists()


@pytest.mark.parametrize("name", ["x", "my search", "été 2.1", "a_b-c.d", "x" * 100, "7"])
def test_a_plain_name_is_taken_as_it_is(output: Path, name: str) -> None:
    assert name_for(output, name, "garbage", resume=False) == name


@pytest.mark.parametrize("space", ["pictures", ".hidden", "-rf", "my pics [1]", "é/漢", "..", "", "漢" * 300])
def test_the_name_of_any_space_is_one_that_can_be_given_back(output: Path, space: str) -> None:
    for _ in range(2):
        name = name_for(output, None, space, resume=False)
        search(output, name, space)
        assert name_for(output, name, space, resume=True) == name


def test_a_resume_takes_up_the_newest_search_of_its_space(output: Path) -> None:
    search(output, "garbage", age=30)
    search(output, "named by hand", age=20)
    search(output, "garbage-2", age=25)
    search(output, "newer", space="other", age=10)
    damaged = search(output, "damaged")
    for text in ("{", "[]", "{}", "null"):
        (damaged / SEARCH_FILE).write_text(text)
        assert name_for(output, None, "garbage", resume=True) == "named by hand"


def test_nothing_to_resume_is_said(output: Path) -> None:
    assert "nothing to resume" in refused(output, None, resume=True)
    search(output, "x", space="other")
    message = refused(output, None, resume=True)
    assert "'garbage'" in message
    assert str(output) in message
    assert "damaged" not in message
    lost = search(output, "y") / SEARCH_FILE
    lost.write_text("{")
    assert f"({lost} is missing or damaged)" in refused(output, None, resume=True)


def test_a_folder_that_is_no_search_is_not_taken_for_one(output: Path) -> None:
    (output / "garbage").mkdir(parents=True)
    (output / "garbage" / "thesis.txt").write_text("")
    (output / "garbage-2").write_text("")
    assert name_for(output, None, "garbage", resume=False) == "garbage-3"
    assert str(output / "garbage-2") in refused(output, "garbage-2")


def test_a_name_is_free_again_where_nothing_was_begun(output: Path) -> None:
    """A process that was refused, or ended, before it wrote down what it searches."""
    for _ in range(2):
        assert name_for(output, "x", "garbage", resume=False) == "x"
        with claimed(output / "x", fresh=True):
            pass


def test_a_misspelt_name_to_resume_is_answered_with_the_right_one(output: Path) -> None:
    search(output, "birds")
    message = refused(output, "brids", resume=True)
    assert "'brids'" in message
    assert "birds" in message.replace("brids", "")


HOLD = """
import sys
from pathlib import Path
from tune_tl.record.folder import claimed

with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(output: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed `output/x`."""
    command = [sys.executable, "-c", HOLD, str(output / "x")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_process_at_a_time_runs_a_search(output: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(BadInput, match="another process") as error, claimed(output / "x"):
        pass
    assert str(output / "x") in str(error.value)
    with claimed(output / "y"):  # another search is free
        pass


@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["killed", "done"])
def test_a_search_is_free_again_when_its_process_has_ended(
    output: Path, holder: subprocess.Popen[str], end: signal.Signals | None
) -> None:
    if end:
        holder.send_signal(end)
    holder.communicate()
    with claimed(output / "x"):
        assert (output / "x").is_dir()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(BadInput, match=r"cannot be written .*--output") as error, claimed(output / "x"):
            pass
        assert str(output / "x") in str(error.value)


def test_a_new_search_does_not_take_a_folder_that_was_filled_meanwhile(output: Path) -> None:
    name_for(output, "x", "garbage", resume=False)
    search(output, "x")  # by another process, which has ended
    with pytest.raises(BadInput, match=r"runs/x exists already.*--resume"), claimed(output / "x", fresh=True):
        pass
    with claimed(output / "x"):
        pass


START = """
import sys
from pathlib import Path
from tune_tl.data.folder import scan
from tune_tl.errors import BadInput
from tune_tl.experiment import Experiment
from tune_tl.driver.resuming import begin
from tune_tl.preflight.ready import Ready
from tune_tl.record.folder import claimed, name_for
from tune_tl.spaces import reading

output, held = Path(sys.argv[1]), sys.argv[2] == "held"
prepared = Ready(reading.load("default")[0], scan(output.parent / "pictures", name="pets"), {}, {})
try:
    name = name_for(output, "x", "garbage", resume=False)
    print("ready", flush=True)
    sys.stdin.readline()
    made = Experiment(name, trials=3, budget_s=None, strategy="tpe", seed=1, output=output)
    with claimed(made.folder, fresh=True):
        begin(made, prepared)
        print("mine", flush=True)
        if held:
            sys.stdin.readline()
except BadInput as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("how", ["held", "one after the other"])
def test_of_many_processes_that_start_under_one_name_exactly_one_gets_it(output: Path, how: str) -> None:
    cats_and_dogs(output.parent / "pictures")
    command = [sys.executable, "-c", START, str(output), how]
    starting = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(8)
    ]
    for process in starting:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in starting:  # all have found the name free
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        if how != "held":
            process.wait(60)
    said = [process.stdout.readline() for process in starting if process.stdout]
    for process in starting:
        process.communicate()
    assert said.count("mine\n") == 1, said
    for line in said:
        assert line == "mine\n" or ("another process" in line or "exists already" in line)
        assert line == "mine\n" or (str(output / "x") in line and "--name" in line)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(output: Path) -> None:
    folder = search(output, "x")
    os.chown(folder, 12345, 12345)
    with pytest.raises(BadInput) as error, claimed(folder):
        pass
    for word in (str(folder), "12345", "chown", "--name", "--output"):
        assert word in str(error.value)
    assert [path.name for path in folder.iterdir()] == [SEARCH_FILE]  # untouched


def ready(root: Path) -> Ready:
    return Ready(reading.load("default")[0], scan(root, name="pets"), {}, {"vgg16": "no network"})


def experiment(output: Path) -> Experiment:
    made = Experiment("x", trials=3, budget_s=None, strategy="tpe", seed=1, output=output)
    made.folder.mkdir(parents=True)
    return made


def test_what_is_searched_is_written_down(tmp_path: Path, output: Path) -> None:
    mine, prepared = experiment(output), ready(cats_and_dogs(tmp_path / "pictures"))
    begin(mine, prepared)
    facts = json.loads((mine.folder / SEARCH_FILE).read_text())
    assert (facts["name"], facts["strategy"], facts["trials"], facts["seed"]) == ("x", "tpe", 3, 1)
    assert facts["dataset"] == prepared.dataset.describe()
    assert facts["class_names"] == ["cat", "dog"]
    assert facts["left_out"] == {"vgg16": "no network"}
    assert {"python", "torch", "ray", "optuna", "mlflow"} <= facts["versions"].keys()
    assert sorted(path.name for path in mine.folder.iterdir()) == [
        "images.json", "ledger.jsonl", SEARCH_FILE, "trials.jsonl",
    ]  # fmt: skip  # no half-written file


def test_a_search_goes_on_with_the_same_images_wherever_they_lie(tmp_path: Path, output: Path) -> None:
    mine = experiment(output)
    begin(mine, ready(cats_and_dogs(tmp_path / "here")))
    begin(mine, ready(cats_and_dogs(tmp_path / "there")))


def test_a_search_does_not_go_on_with_other_images(tmp_path: Path, output: Path) -> None:
    mine = experiment(output)
    one, other = ready(cats_and_dogs(tmp_path / "one")), ready(cats_and_dogs(tmp_path / "other", "changed"))
    begin(mine, one)
    before = (mine.folder / SEARCH_FILE).read_bytes()
    with pytest.raises(BadInput) as error:
        begin(mine, other)
    assert one.dataset.fingerprint in str(error.value)
    assert other.dataset.fingerprint in str(error.value)
    assert "--name" in str(error.value)
    assert (mine.folder / SEARCH_FILE).read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"dataset": null}', "null"])
def test_a_damaged_folder_is_named(tmp_path: Path, output: Path, text: str) -> None:
    mine = experiment(output)
    (mine.folder / SEARCH_FILE).write_text(text)
    with pytest.raises(BadInput) as error:
        begin(mine, ready(cats_and_dogs(tmp_path / "pictures")))
    assert str(mine.folder / SEARCH_FILE) in str(error.value)
    assert "\n" not in str(error.value)


def result(n: int, unfreeze: int, f1: float, state: State = State.COMPLETED) -> TrialResult:
    config = TrialConfig("resnet18", unfreeze="all" if unfreeze == 9 else unfreeze, seed=n)
    epoch = EpochMetrics(1, 0.1, 0.1, f1, f1, (f1,), 1.0, 1.0)
    return TrialResult(config.key, config, state, (epoch,), 0.0, 1.0)


def test_only_the_weights_of_those_that_would_be_finalists_stay(tmp_path: Path) -> None:
    def checkpoint(trial: str) -> Path:
        return Checkpoints(tmp_path, trial).best

    def finish(done: TrialResult) -> None:
        checkpoint(done.trial).write_text("weights")
        Checkpoints(tmp_path, done.trial).state(1).write_text("what it takes to go on")

    results = [
        result(0, 0, 0.5), result(1, 0, 0.7), result(2, 2, 0.6), result(3, 0, 0.6), result(4, 9, 0.9),
        result(5, 9, 0.99, State.FAILED), result(6, 2, 0.8, State.STOPPED), result(7, 1, float("nan")),
        result(8, 2, 0.7),
    ]  # fmt: skip
    running = checkpoint("running")
    running.write_text("in training")
    for first in range(len(results)):  # of which an earlier run ended so many
        for path in tmp_path.glob("*.safetensors"):
            path.unlink()
        running.write_text("in training")
        for past in results[:first]:  # by a process that was killed before it removed anything
            finish(past)
        kept = BestWeights(tmp_path, results[:first])
        for n in range(first, len(results)):
            finish(results[n])
            kept.end(results[n])
            there = {path.stem for path in tmp_path.glob("*.safetensors")}
            assert there == {"running"} | {r.trial for r in finalists(results[: n + 1])}


def test_a_trial_that_never_wrote_weights_can_end(tmp_path: Path) -> None:
    BestWeights(tmp_path, []).end(result(0, 0, 0.5, State.FAILED))
    assert list(tmp_path.iterdir()) == []


def test_versions_are_those_of_this_machine() -> None:
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_of_two_searches_at_once_the_second_gets_the_next_name(output: Path) -> None:
    with (
        opened(output, None, "garbage", resume=False) as first,
        opened(output, None, "garbage", resume=False) as second,
    ):
        assert (first.name, second.name) == ("garbage", "garbage-2")
        with pytest.raises(BadInput, match="another process"), opened(output, "garbage", "x", resume=False):
            pass


def test_a_search_that_comes_to_nothing_leaves_no_folder(output: Path) -> None:
    with opened(output / "a" / "b", None, "garbage", resume=False) as folder:
        assert folder.is_dir()
    assert not output.exists()
    with opened(output, None, "garbage", resume=False) as folder:
        (folder / SEARCH_FILE).write_text("{}")
    assert [path.name for path in output.iterdir()] == ["garbage"]


def test_a_search_that_came_and_went_in_between_is_left(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder was not there when its name was chosen, and is when it is held."""
    held = files.claimed

    @contextlib.contextmanager
    def late(lock: Path) -> Iterator[None]:
        (lock.parent / SEARCH_FILE).write_text("{}")
        with held(lock):
            yield

    monkeypatch.setattr(files, "claimed", late)
    with pytest.raises(BadInput, match="exists already"), claimed(output / "pets", fresh=True):
        pass
    assert (output / "pets" / SEARCH_FILE).exists()


def test_what_could_not_start_leaves_nothing_and_what_did_stays(output: Path) -> None:
    for lines in ("", "{}\n"):
        with pytest.raises(BadInput, match="no"), claimed(output / "pets", fresh=True):
            (output / "pets" / SEARCH_FILE).write_text("{}")
            (output / "pets" / EPOCHS_FILE).write_text(lines)
            raise BadInput("no")
        assert (output / "pets").exists() == bool(lines)


@pytest.mark.parametrize("layout", ["flat", "wrapped", "split"])
def test_a_search_may_lie_among_its_images(tmp_path: Path, layout: str) -> None:
    """Its folder is there, and empty, while the images are listed."""
    inside = {"flat": [""], "wrapped": ["data"], "split": ["simpsons_dataset", "kaggle_simpson_testset"]}[
        layout
    ]
    for place in inside:
        for image in cats_and_dogs(tmp_path / "images" / place).rglob("*.jpg"):
            image.write_text(f"{place} {image.read_text()}")  # no copies of each other
    before = scan(tmp_path / "images", name="pets")
    with opened(tmp_path / "images" / "runs", None, "garbage", resume=False):
        now = scan(tmp_path / "images", name="pets")
    assert (now.fingerprint, now.notes) == (before.fingerprint, before.notes)
