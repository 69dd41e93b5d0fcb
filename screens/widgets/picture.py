"""A picture as lines of half blocks: two pixels a cell, in any terminal that shows colours.

Kitty's and sixel's pictures would be finer, but reach neither through tmux nor, everywhere, over
SSH, and whether a terminal has them can only be asked before the app has begun.
"""

import io

from PIL import Image
from rich.console import Console
from rich_pixels import HalfcellRenderer, Pixels
from textual.strip import Strip

_MOST_CELLS = 200 * 100


def strips(data: bytes, columns: int, rows: int) -> list[Strip]:
    """The picture in a PNG, JPEG or WebP file, as large as fits. Raises `ValueError` for what is
    no picture, or one beyond reason. Takes tens of milliseconds: call it in a thread."""
    if columns < 1 or rows < 1 or columns * rows > _MOST_CELLS:
        raise ValueError("there is no room for a picture")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as file:
            # JPEGs are decoded at a size near the one that is shown.
            file.draft("RGB", (columns, rows * 2))
            image = file.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    scale = min(columns / image.width, rows * 2 / image.height)
    # Half blocks are as wide as high; an odd number of them would leave half a row.
    size = (max(1, round(image.width * scale)), max(2, round(image.height * scale / 2) * 2))
    console = Console(
        width=size[0],
        color_system="truecolor",
        force_terminal=True,
        legacy_windows=False,
        _environ={},
    )
    pixels = Pixels.from_image(
        image.resize(size, Image.Resampling.LANCZOS), renderer=HalfcellRenderer()
    )
    lines = console.render_lines(pixels, pad=False, new_lines=False)
    return [Strip(line) for line in lines if line][: size[1] // 2]
