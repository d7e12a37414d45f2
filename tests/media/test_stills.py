"""PNG files keep every pixel and word; pictures of others come as upright 8-bit RGB; bombs stay shut."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from mutoscope.media.notes import Label
from mutoscope.media.stills import FolderSink, label_of, open_picture, picture_tensor, save_png
from mutoscope.video import Refusal

PIXELS = 10_000


def noise(*, height: int = 13, width: int = 17) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


def seen(path: Path) -> torch.Tensor:
    with open_picture(path, max_pixels=PIXELS) as image:
        return picture_tensor(image)


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data hold next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_every_pixel_of_a_png_comes_back(tmp_path: Path) -> None:
    save_png(noise(), tmp_path / "a.png")
    assert torch.equal(seen(tmp_path / "a.png"), noise())


def test_the_label_stands_in_text_chunks(tmp_path: Path) -> None:
    notes = {"prompt": "Füchse im 雪", "two words": "x", "雪": "snow", "": "nameless", "a" * 80: "long"}
    save_png(noise(), tmp_path / "a.png", label=Label(notes, 12.5, (17, 13)))
    with Image.open(tmp_path / "a.png") as image:
        assert label_of(image) == Label(notes, 12.5, (17, 13))
        assert set(image.text) == {"mutoscope", "prompt", "two words"}  # the others are no PNG keywords
        assert image.text["prompt"] == notes["prompt"]


def test_a_note_cannot_pose_as_the_label(tmp_path: Path) -> None:
    notes = {"mutoscope": '{"notes": {}, "fps": 3}', "prompt": "a\0b"}
    save_png(noise(), tmp_path / "a.png", label=Label(notes, 12))
    with Image.open(tmp_path / "a.png") as image:
        assert label_of(image) == Label(notes, 12)


def test_plain_text_of_other_programs_becomes_notes(tmp_path: Path) -> None:
    save_png(noise(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert label_of(image) == Label()
    Image.new("P", (4, 4)).save(tmp_path / "a.gif", comment=b"made elsewhere")
    with Image.open(tmp_path / "a.gif") as image:
        assert label_of(image) == Label({"comment": "made elsewhere"})


def test_a_folder_is_numbered_and_labelled_once(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "frames", label=Label({"prompt": "rain"}, 12))
    sink.add(torch.stack([noise(), 255 - noise()]))
    sink.add(noise()[None])
    sink.finish()
    paths = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in paths] == ["000000.png", "000001.png", "000002.png"]
    assert torch.equal(seen(paths[1]), 255 - noise())
    labels = []
    for path in paths:
        with Image.open(path) as image:
            labels.append(label_of(image).notes)
    assert labels == [{"prompt": "rain"}, {}, {}]


SIZES = [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (20_000, 6_000), (10_001, 1), (1, 10_001)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_dimensions_in_a_header_are_refused(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(width, height))
    with pytest.raises(Refusal, match=r"bomb\.png: .*(too large to open|is more than the 10000 pixels)"):
        open_picture(tmp_path / "bomb.png", max_pixels=PIXELS)


def test_a_picture_of_just_the_pixels_allowed_is_opened(tmp_path: Path) -> None:
    save_png(noise(height=100, width=100), tmp_path / "a.png")
    assert seen(tmp_path / "a.png").shape == (100, 100, 3)


@pytest.mark.parametrize(
    "content", [b"no picture", png(4, 4)[:20], b"%!PS-Adobe-3.0 EPSF", b"P6 1 1 255 abc"]
)
def test_other_formats_and_broken_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Refusal, match=r"a\.png: (no video or picture|a damaged picture)"):
        open_picture(tmp_path / "a.png", max_pixels=PIXELS)


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert seen(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]


def test_a_transparent_palette_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert seen(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_greys_of_8_and_16_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(np.array([[0, 256 * 7 + 200, 65535]], dtype=np.uint16)).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        assert seen(tmp_path / name)[0].tolist() == [[0] * 3, [7] * 3, [255] * 3]


def test_pictures_stand_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # turn clockwise to view
    Image.fromarray(noise().numpy()).save(tmp_path / "a.png", exif=turned)
    assert torch.equal(seen(tmp_path / "a.png"), torch.rot90(noise(), -1))
