"""What the name of a file, or of a member of an archive, says that it is."""

from pathlib import PurePosixPath

# An extension says that a part is a picture; its content says of which format, and formats that are
# not read get a verdict of their own.
IMAGES = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp"}) | {
    *("gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl", "svg", "ico", "ppm")
}
SOURCE = ".source"  # what a source image's name has before its extension
# What programs leave beside pictures under names that do not begin with a dot.
LEFT_BY_PROGRAMS = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir"}) | {
    *("$RECYCLE.BIN", "System Volume Information", "__pycache__")
}


def split_name(name: str) -> tuple[str, str]:
    """Key and part: `folder/a.b.JPG` -> (`folder/a.b`, `image`), `a.source.png` -> (`a`, `source`).

    What is no image is a part by its extension.
    """
    stem, _, extension = name.rpartition(".")
    if extension.lower() not in IMAGES:
        return stem, extension.lower()
    key = stem.removesuffix(SOURCE)
    return key, "image" if key == stem else "source"


def hidden(name: str) -> bool:
    """True for what is, or lies in, a hidden folder: `.git/a.jpg`, `__MACOSX/a.jpg`, `._a.jpg`."""
    parts = PurePosixPath(name).parts
    return any(part in LEFT_BY_PROGRAMS or (part[0] == "." and part != "..") for part in parts)


def unsafe(name: str) -> bool:
    """True for a name that leaves its folder, or that terminals or file systems take otherwise."""
    path = PurePosixPath(name)
    printable = name.isprintable() and "\\" not in name
    return path.is_absolute() or ".." in path.parts or not path.stem or not printable
