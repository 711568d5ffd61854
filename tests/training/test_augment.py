from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_tl.experiment import AUGMENTS
from tune_tl.training.augment import DRAWS, POLICIES, Policy, augment, mix


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys())
def policy(request: pytest.FixtureRequest) -> Policy:
    return request.param  # type: ignore[no-any-return]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, DRAWS, generator=seeded(seed))


def noise(n: int = 8, size: int = 32) -> Tensor:
    return torch.rand(n, 3, size, size, generator=seeded(1))


def alike(n: int) -> Tensor:
    """`n` times the same smooth image, a bright spot off the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    spot = torch.exp(-4 * ((x - 0.4) ** 2 + (y + 0.2) ** 2))
    return torch.stack([spot, 0.5 * spot + 0.2, 1 - spot]).repeat(n, 1, 1, 1)


def test_shape_type_and_range_stay(policy: Policy) -> None:
    images = noise()
    changed = augment(images, policy, draws(len(images)))
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6  # an interpolation's weights may add up to a bit more than 1


def test_the_given_images_are_left_as_they_are(policy: Policy) -> None:
    images = noise()
    augment(images, policy, draws(len(images)))
    assert torch.equal(images, noise())


def test_the_same_seed_draws_the_same_and_another_seed_another(policy: Policy) -> None:
    once, again, other = (augment(noise(), policy, draws(8, seed)) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert torch.equal(once, other) == (policy == Policy())


def test_nothing_but_the_given_draws_decides(policy: Policy) -> None:
    torch.manual_seed(0)
    once = augment(noise(), policy, draws(8))
    torch.manual_seed(1)
    assert torch.equal(augment(noise(), policy, draws(8)), once)


def test_what_an_image_becomes_does_not_depend_on_its_batch(policy: Policy) -> None:
    images, rows = noise(), draws(8)
    whole = augment(images, policy, rows)
    parts = torch.cat([augment(images[i : i + 3], policy, rows[i : i + 3]) for i in (0, 3, 6)])
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
def test_each_image_of_a_batch_is_drawn_for_itself(name: str) -> None:
    changed = augment(alike(8), POLICIES[name], draws(8))
    assert len({image.numpy().tobytes() for image in changed}) == 8


def test_the_policy_none_returns_its_input() -> None:
    images = noise()
    assert augment(images, POLICIES["none"], draws(len(images))) is images


def test_policies_are_listed_in_growing_strength() -> None:
    images = alike(400)
    changes = [
        (augment(images, policy, draws(len(images))) - images).abs().mean().item()
        for policy in POLICIES.values()
    ]
    assert changes == sorted(set(changes))


def test_a_flip_mirrors_about_half_of_the_images_exactly() -> None:
    images = noise(200)
    changed = augment(images, Policy(flip=True), draws(len(images)))
    mirrored = [
        torch.allclose(new, old.flip(-1), atol=1e-5) for new, old in zip(changed, images, strict=True)
    ]
    kept = [torch.allclose(new, old, atol=1e-5) for new, old in zip(changed, images, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 70 <= sum(mirrored) <= 130


def test_a_rotation_keeps_the_middle_and_turns_the_rest_by_no_more_than_its_degrees() -> None:
    size = 65
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    spots = (((x - 0.5) ** 2 + y**2) < 0.01).float() + ((x**2 + y**2) < 0.01).float()
    changed = augment(spots.expand(100, 3, -1, -1), Policy(rotate=30), draws(100))
    assert (changed[:, 0, size // 2, size // 2] > 0.9).all()
    mass = changed[:, 0] * ((x**2 + y**2) > 0.1)  # the outer spot
    angles = torch.atan2((mass * y).sum((1, 2)), (mass * x).sum((1, 2))).rad2deg()
    assert angles.abs().max() <= 30.5
    assert angles.min() < -20
    assert angles.max() > 20


def test_a_zoom_shows_a_part_of_the_image_without_borders() -> None:
    ramp = torch.linspace(0, 1, 65).expand(200, 3, 65, 65)
    changed = augment(ramp, Policy(zoom=0.5), draws(200))
    shown = changed[:, 0, 0, -1] - changed[:, 0, 0, 0]
    assert ((shown > 0.49) & (shown <= 1)).all()
    assert shown.min() < 0.55
    assert shown.max() > 0.95
    assert (changed.diff(dim=-1) > 0).all(), "cropped, neither folded at the border nor squeezed"


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_erasing_greys_a_box_in_the_stated_share_of_images(share: float) -> None:
    images = noise(500)
    grey = (augment(images, Policy(erase=share), draws(len(images))) == 0.5).all(dim=1)
    hit = grey.flatten(1).any(dim=1)
    assert hit.float().mean().item() == pytest.approx(share, abs=0.06)
    for box in grey[hit]:
        rows, columns = box.any(dim=1), box.any(dim=0)
        assert torch.equal(box, rows[:, None] & columns[None, :])
        assert 0.01 <= box.float().mean() <= 0.23  # 2 to 20 %, in whole pixels


def test_colours_change_without_moving_anything() -> None:
    images = alike(50)
    changed = augment(
        images, replace(POLICIES["strong"], zoom=0, rotate=0, flip=False, erase=0), draws(len(images))
    )
    brightest = changed[:, 0].flatten(1).argmax(dim=1)
    inside = (changed[:, 0] < 1).flatten(1).all(dim=1)  # not clipped to a plateau
    assert inside.sum() > 10
    assert (brightest[inside] == images[0, 0].argmax()).all()


def test_an_image_is_the_same_to_the_bit_in_any_batch(policy: Policy) -> None:
    images, rows = noise(24), draws(24)
    whole = augment(images, policy, rows)
    assert torch.equal(whole[5:7], augment(images[5:7], policy, rows[5:7]))


def test_what_comes_lies_in_memory_as_what_was_given(policy: Policy) -> None:
    images = noise().contiguous(memory_format=torch.channels_last)
    changed = augment(images, policy, draws(len(images)))
    assert changed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(changed, augment(noise(), policy, draws(len(images))))


def test_colours_are_brightness_then_contrast_then_saturation() -> None:
    images, rows = noise(), draws(8)
    brightness, contrast, saturation = (0.6 + 0.8 * rows[:, 5:8, None, None, None]).unbind(dim=1)
    bright = images * brightness
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    contrasted = mean + contrast * (bright - mean)
    grey = contrasted.mean(dim=1, keepdim=True)
    expected = (grey + saturation * (contrasted - grey)).clamp(0, 1)
    torch.testing.assert_close(augment(images, Policy(colour=0.4), rows), expected)


SHAPES = {"pixels": (16, 3, 32, 32), "activations": (16, 24, 7, 7), "features": (16, 48)}


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=seeded(2)).to(dtype)


def mixed(x: Tensor, alpha: float = 1.0, times: int = 60) -> list[tuple[Tensor, Tensor, float]]:
    random = np.random.default_rng(0)
    return [mix(x, alpha, random) for _ in range(times)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_mixed_row_is_its_own_share_of_itself_and_the_rest_of_its_partner(shape: tuple[int, ...]) -> None:
    x = batch(shape)
    for new, partner, share in mixed(x):
        assert sorted(partner.tolist()) == list(range(len(x)))
        assert 0 <= share <= 1
        blended = torch.allclose(new, share * x + (1 - share) * x[partner], atol=1e-5)
        own = (new == x).flatten(1).float().mean(dim=1)
        pasted = ((new == x) | (new == x[partner])).all() and torch.allclose(
            own[partner != torch.arange(len(x))], torch.tensor(share).float(), atol=1e-6
        )
        assert blended or pasted


@pytest.mark.parametrize(("name", "both"), [("pixels", True), ("activations", True), ("features", False)])
def test_about_half_of_the_batches_with_height_and_width_get_a_box(name: str, both: bool) -> None:
    x = batch(SHAPES[name])
    boxes = 0
    for new, partner, _ in mixed(x, times=200):
        foreign = (new != x).flatten(2).any(dim=1) if x.ndim == 4 else new != x
        boxes += bool(((new == x) | (new == x[partner])).all() and foreign.any())
    assert (60 <= boxes <= 140) if both else boxes == 0


def test_what_is_cut_out_is_one_box_in_all_channels() -> None:
    x = batch(SHAPES["pixels"])
    for new, partner, share in mixed(x):
        foreign = new != x
        if share in (0, 1) or ((new != x) & (new != x[partner])).any():
            continue  # mixup
        for box in foreign[partner != torch.arange(len(x))]:
            assert (box == box[0]).all()
            rows, columns = box[0].any(dim=1), box[0].any(dim=0)
            assert torch.equal(box[0], rows[:, None] & columns[None, :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_mixing_keeps_the_type_the_layout_and_the_given_rows(name: str, dtype: torch.dtype) -> None:
    x = batch(SHAPES[name], dtype)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()
    for new, _, _ in mixed(x, times=20):
        assert new.dtype == dtype
        assert new.shape == x.shape
        assert new.stride() == x.stride()
    assert torch.equal(x, before)


def test_a_mix_depends_on_its_generator_alone() -> None:
    x = batch(SHAPES["pixels"])
    once, again, other = (mix(x, 0.4, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(once[0], again[0])
    assert once[2] == again[2] != other[2]


def test_a_small_alpha_leaves_most_batches_nearly_whole() -> None:
    shares = [share for _, _, share in mixed(batch(SHAPES["features"]), alpha=0.1, times=300)]
    assert np.mean([min(share, 1 - share) < 0.1 for share in shares]) > 0.7
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("rows", "alpha"), [(16, 0.0), (1, 1.0)])
def test_without_alpha_or_partner_a_batch_stays_itself(rows: int, alpha: float) -> None:
    x = batch((rows, 3, 8, 8))
    new, partner, share = mix(x, alpha, np.random.default_rng(0))
    assert new is x
    assert torch.equal(partner, torch.arange(rows))
    assert share == 1


def test_only_the_strongest_policy_mixes() -> None:
    assert [name for name, policy in POLICIES.items() if policy.mix] == ["strong"]


def test_every_policy_that_a_config_may_name_is_there() -> None:
    assert tuple(POLICIES) == AUGMENTS
