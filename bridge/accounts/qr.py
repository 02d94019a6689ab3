"""A QR text as what an `<img>` shows."""

from __future__ import annotations

import base64
import io

import qrcode
from qrcode.constants import ERROR_CORRECT_L
from qrcode.image.pil import PilImage


def png_data_url(text: str) -> str:
    """The QR code as the data URL of a PNG, a few hundred pixels wide, with a quiet zone."""
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_L, box_size=6, border=4)
    code.add_data(text)
    code.make(fit=True)
    png = io.BytesIO()
    code.make_image(image_factory=PilImage).save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
