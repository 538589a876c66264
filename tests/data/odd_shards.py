"""Shards of pictures and texts as they come: odd modes, copies, cuts, several scripts, markup."""

import io

import numpy as np
from PIL import Image
from tar_shards import picture, tar

from unify.data.adapters.index import index_folder

MARKUP = "<script>alert(1)</script> & <b>bold</b>"
RIGHT_TO_LEFT = "قطة تجلس على السجادة"
CAPTIONS = {
    "palette": "a picture of few colours",
    "deep": "собака бежит по траве",
    "cmyk": "ink on paper",
    "turned": RIGHT_TO_LEFT,
    "copy-a": "the same twice",
    "copy-b": "The same, twice!",
    "copy-c": "猫が座っている",
    "near": MARKUP,
    "smaller": "two dogs run in the park, today",
    "plain": "two dogs run in the park",
}


def scenery(size=(64, 48)):
    """A picture with large areas, which stay what they are when it is scaled."""
    areas = np.random.default_rng(3).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(areas).resize(size, Image.Resampling.BICUBIC)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pictures():
    """(key and extension) -> bytes; those of CAPTIONS can be read."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) * 100)
    return {
        "palette.png": saved(scenery((40, 40)).quantize(7), "PNG"),
        "deep.png": saved(deep, "PNG"),
        "cmyk.jpg": saved(Image.new("CMYK", (30, 20), (200, 10, 10, 0)), "JPEG"),
        "turned.jpg": saved(scenery((48, 24)).rotate(180), "JPEG", exif=exif),
        "copy-a.jpg": picture(5),
        "copy-b.jpg": picture(5),
        "copy-c.jpg": picture(5),
        "near.jpg": saved(scenery(), "JPEG", quality=95),
        "smaller.jpg": saved(scenery((32, 24)), "JPEG", quality=70),
        "plain.webp": saved(Image.new("RGB", (64, 16), "green"), "WEBP"),
        "animated.webp": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "cut.jpg": saved(scenery((200, 200)), "JPEG", quality=95)[:-900],
        "silent.jpg": picture(8),
        "alone.jpg": picture(9),
    }


def write_odd_shards(folder):
    """Two shards and their index: the records of CAPTIONS, and four bad ones."""
    folder.mkdir()
    texts = CAPTIONS | {"animated": "it moves", "cut": "half of it", "silent": " \n"}
    members = []
    for name, data in pictures().items():
        key = name.partition(".")[0]
        members.append((name, data))
        members += [(f"{key}.txt", texts[key].encode())] if key in texts else []
    tar(folder / "shard-000000.tar", members[:12])
    tar(folder / "shard-000001.tar", members[12:])
    index_folder(folder)
    return folder
