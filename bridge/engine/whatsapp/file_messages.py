"""The message that says where a file is that was uploaded, and how it is opened. Pure."""

from __future__ import annotations

from typing import Any

from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
    AudioMessage,
    DocumentMessage,
    FutureProofMessage,
    ImageMessage,
    Message,
    StickerMessage,
    VideoMessage,
)

from bridge.orders import Media


def media_message(order: Media, context: Any) -> Any:
    """The `waE2E.Message` of an uploaded file."""
    common = {
        "URL": order.file.url,
        "directPath": order.file.direct_path,
        "mediaKey": order.file.media_key,
        "fileSHA256": order.file.sha256,
        "fileEncSHA256": order.file.encrypted_sha256,
        "fileLength": order.file.size_bytes,
        "mimetype": order.mime_type,
        "contextInfo": context,
    }
    once = order.view_once or None
    match order.kind:
        case "image":
            inner = Message(
                imageMessage=ImageMessage(
                    **common,
                    caption=order.caption,
                    width=order.width,
                    height=order.height,
                    JPEGThumbnail=order.thumbnail,
                    viewOnce=once,
                )
            )
        case "video":
            inner = Message(
                videoMessage=VideoMessage(
                    **common,
                    caption=order.caption,
                    width=order.width,
                    height=order.height,
                    seconds=order.seconds,
                    JPEGThumbnail=order.thumbnail,
                    viewOnce=once,
                )
            )
        case "audio":
            inner = Message(
                audioMessage=AudioMessage(
                    **common,
                    seconds=order.seconds,
                    PTT=order.voice_note or None,
                    waveform=order.waveform,
                    viewOnce=once,
                )
            )
        case "sticker":
            inner = Message(
                stickerMessage=StickerMessage(
                    **common,
                    width=order.width,
                    height=order.height,
                    isAnimated=order.animated or None,
                )
            )
        case "document":
            return _document(order, common)
    if once:
        return Message(viewOnceMessageV2=FutureProofMessage(message=inner))
    return inner


def _document(order: Media, common: dict[str, Any]) -> Any:
    message = Message(
        documentMessage=DocumentMessage(
            **common,
            fileName=order.file_name,
            title=order.file_name,
            caption=order.caption,
            JPEGThumbnail=order.thumbnail,
        )
    )
    if order.caption is None:
        return message
    # apps show the caption of a document only in this wrapper
    return Message(documentWithCaptionMessage=FutureProofMessage(message=message))
