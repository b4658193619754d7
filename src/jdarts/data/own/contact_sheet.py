"""A picture of an image set: a row of images for each class, under the class's name."""

import io

import numpy as np

from jdarts.data.dataset import ImageSplit
from jdarts.data.thumbnails import as_picture

#: Images of a row, and most rows.
COLUMNS, ROWS = 10, 40
#: Sides of the shown images in pixels, and the heights of a line of text and of a gap.
_SMALLEST, _LARGEST, _LINE, _GAP = 48, 96, 18, 4


def contact_sheet(split: ImageSplit, class_names: tuple[str, ...]) -> bytes:
    """A PNG file with some images of each class, evenly taken from the set.

    Args:
      split: the images.
      class_names: one name per label; the first 40 are shown.
    """
    from PIL import Image, ImageDraw

    height, width = split.images.shape[1:3]
    scale = min(max(_SMALLEST / max(height, width), 1), _LARGEST / max(height, width))
    # Whole factors keep pixels square.
    scale = round(scale) if scale > 1 else scale
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    names = class_names[:ROWS]
    row_height = _LINE + down + _GAP
    sheet = Image.new("RGB", (_GAP + COLUMNS * (across + _GAP), _GAP + len(names) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(names):
        rows = np.flatnonzero(split.labels == label)
        top = _GAP + label * row_height
        draw.text((_GAP, top), f"{name} ({len(rows):,})", fill="black")
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, COLUMNS).astype(int))] if len(rows) else rows
        for place, row in enumerate(chosen):
            method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR
            shown = as_picture(split.images[row]).resize((across, down), method)
            sheet.paste(shown, (_GAP + place * (across + _GAP), top + _LINE))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
