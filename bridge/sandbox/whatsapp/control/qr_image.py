"""Reading the text of a QR code out of an image, as a phone's camera does."""

from __future__ import annotations

import base64
import binascii
import io

import zxingcpp
from PIL import Image, UnidentifiedImageError

_PREFIX = "data:image/"


class QrImageUnreadable(ValueError):
    """The data URL holds no image, or the image no QR code."""


def qr_text(text_or_data_url: str) -> str:
    """The text itself, or what the QR code in an image says.

    :raises QrImageUnreadable: if it is an image without a readable QR code.
    """
    if not text_or_data_url.startswith(_PREFIX):
        return text_or_data_url
    _, _, data = text_or_data_url.partition(";base64,")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        found = zxingcpp.read_barcode(
            image.convert("L"), formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
        )
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError) as error:
        raise QrImageUnreadable("The data URL does not hold an image.") from error
    if found is None:
        raise QrImageUnreadable("There is no readable QR code in the image.")
    return found.text
