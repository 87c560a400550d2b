"""Each of torchvision's preprocessing presets, on photographs and on images that are hard to resize."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reliability.pictures import encoded
from tests.support.reference import ImageClassification, torchvision
from tests.support.torchvision_pixels import preprocessing, presets, reference_pixels
from vision.image import decoder
from vision.image.preprocessing import Preprocessing

PRESETS = presets()
BILINEAR, BICUBIC = map(torchvision.transforms.InterpolationMode, ("bilinear", "bicubic"))
MOST_PIXELS = 50_000_000


def pixels(image: bytes, transform: ImageClassification) -> np.ndarray:
    return decoder.decode(decoder.open_image(image, "body", MOST_PIXELS), preprocessing(transform))


def noise(width: int, height: int) -> Image.Image:
    """Random values in each channel of each pixel: nothing is harder to resize."""
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mosaic(photographs: list[Path], width: int, height: int) -> Image.Image:
    """Tiled photographs at their original sizes: large, with the detail of a large photograph."""
    made = Image.new("RGB", (width, height))
    originals = [Image.open(photograph).convert("RGB") for photograph in photographs]
    for number, top in enumerate(range(0, height, 400)):
        for other, left in enumerate(range(0, width, 400)):
            made.paste(originals[(number + other) % len(originals)], (left, top))
    return made


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of each number, in levels of 255."""
    assert one.shape == other.shape
    levels: np.ndarray = np.abs(one.astype(int) - other.astype(int))
    return levels


def test_there_are_as_many_as_torchvision_has() -> None:
    assert len(PRESETS) == 28
    assert {preprocessing(preset).interpolation for preset in PRESETS.values()} == {"bilinear", "bicubic"}


@pytest.mark.parametrize("name", PRESETS)
def test_photographs_are_shown_as_torchvision_shows_them(name: str, photographs: list[Path]) -> None:
    for photograph in photographs:
        image = photograph.read_bytes()
        assert apart(pixels(image, PRESETS[name]), reference_pixels(image, PRESETS[name])).max() <= 2


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_hard_to_resize(name: str) -> None:
    preset = PRESETS[name]
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    sizes = [(1, 1), (7, 5), (37, 211), (211, 37), (301, 233), (1, 40), (40, 1)]
    sizes += [(crop, crop), (resize, resize), (resize + 1, resize), (crop - 1, resize + 8)]
    for size in sizes:
        picture = noise(*size)
        shown = pixels(encoded(picture, compress_level=0), preset)
        assert apart(shown, reference_pixels(picture, preset)).max() <= 2, size


LIES = {  # orientation → how a file stores an upright picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _half_transparent(picture: Image.Image) -> Image.Image:
    made = picture.copy()
    made.putalpha(noise(*picture.size).getchannel(0))
    return made


def _on_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _deep(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)


def _turned(turn: int, picture: Image.Image, image_format: str = "PNG") -> tuple[bytes, Image.Image]:
    exif = Image.Exif()
    exif[0x0112] = turn
    lies = picture.transpose(LIES[turn]) if turn in LIES else picture
    return encoded(lies, image_format, exif=exif, quality=92), picture


# Kinds that are converted to RGB in strips: an RGB picture → a file of that kind, and the picture that it shows.
KINDS: dict[str, Callable[[Image.Image], tuple[bytes, Image.Image]]] = {
    "grey": lambda picture: (encoded(picture.convert("L")), picture.convert("L").convert("RGB")),
    "palette": lambda picture: (encoded(picture.quantize(64)), picture.quantize(64).convert("RGB")),
    "alpha": lambda picture: (encoded(_half_transparent(picture)), _on_white(_half_transparent(picture))),
    "cmyk": lambda picture: (encoded(picture.convert("CMYK"), "TIFF"), picture.convert("CMYK").convert("RGB")),
    "16 bit": lambda picture: (encoded(_deep(picture)), picture.convert("L").convert("RGB")),
    **{f"turned {turn}": partial(_turned, turn) for turn in LIES},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strip", [1_000, 4_000_000], ids=["many strips", "one strip"])
@pytest.mark.parametrize("size", [(301, 457), (457, 301), (30, 41), (2, 230)])
def test_whatever_is_made_rgb_is_resized_in_the_same_way(
    kind: str, strip: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bicubic reaches twice as far as bilinear, also across the edges of strips and of the crop."""
    monkeypatch.setattr(decoder, "STRIP", strip)
    image, upright = KINDS[kind](noise(*size))
    for preset in (bicubic(48, 48), bicubic(64, 40)):
        assert apart(pixels(image, preset), reference_pixels(upright, preset)).max() <= 2


@pytest.mark.parametrize("size", [(2, 201), (2, 3000), (41, 4101), (70, 7001), (3000, 2), (7001, 70)])
@pytest.mark.parametrize("kind", ["grey", "turned 1", "turned 6"])
def test_a_very_tall_picture_too(size: tuple[int, int], kind: str) -> None:
    """Pillow resizes it in the opposite order, which shows where bicubic overshoots."""
    image, upright = _turned(1, noise(*size)) if kind == "turned 1" else KINDS[kind](noise(*size))
    for preset in (bicubic(48, 48), bicubic(64, 40)):
        assert apart(pixels(image, preset), reference_pixels(upright, preset)).max() <= 2


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_large_jpeg_that_is_decoded_small_stays_close(divisor: int, turn: int, photographs: list[Path]) -> None:
    """The smallest image that is reduced, which loses most. Its sides are not multiples of the divisor."""
    preset = bicubic(64, 64)
    side = divisor * decoder.PIXELS_TO_AVERAGE * 64
    large, _ = _turned(turn, mosaic(photographs, side + 7, side + 1), "JPEG")
    off = apart(pixels(large, preset), reference_pixels(large, preset))
    assert 0 < off.max() <= 16
    assert off.mean() <= 0.35


def bicubic(resize: int, crop: int) -> ImageClassification:
    return ImageClassification(crop_size=crop, resize_size=resize, interpolation=BICUBIC)


def test_who_does_not_say_how_means_bilinear() -> None:
    assert Preprocessing(256, 224, [0.5] * 3, [0.5] * 3).interpolation == "bilinear"


def test_another_interpolation_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"^model.yaml: preprocessing.interpolation must be bilinear or bicubic, not 'a'"
    ):
        Preprocessing(256, 224, [0.5] * 3, [0.5] * 3, "a")


def test_both_are_told_apart() -> None:
    image = encoded(noise(300, 301))
    one, other = (pixels(image, ImageClassification(crop_size=48, interpolation=how)) for how in (BILINEAR, BICUBIC))
    assert apart(one, other).max() > 2
