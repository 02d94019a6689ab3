// @ts-check
/** What a message holds, between Baileys' protobuf objects and the lines of this program. */

import { createHash } from 'node:crypto';
import { downloadMediaMessage, getContentType, normalizeMessageContent } from 'baileys';

/**
 * @typedef {object} Seen
 * @property {string} kind
 * @property {string | null} text      text, caption, emoji, name or question: what a person would read
 * @property {string} [quoted_id]
 * @property {string} [target_id]      the message that a reaction, an edit or a deletion is about
 * @property {string} [mime_type]
 * @property {string} [file_name]
 * @property {number} [size_bytes]
 * @property {string} [sha256]         of the decrypted file, in hexadecimal
 */

/**
 * @typedef {object} Outgoing
 * @property {string} type
 * @property {string} to
 * @property {string} [text]
 * @property {string} [media_base64]
 * @property {string} [mime_type]
 * @property {string} [file_name]
 * @property {string} [caption]
 * @property {boolean} [ptt]
 * @property {string[]} [mentions]
 * @property {string[]} [options]
 * @property {number} [latitude]
 * @property {number} [longitude]
 * @property {string} [vcard]
 * @property {import('baileys').WAMessageKey} [target]
 */

/** @type {Record<string, string>} */
const KINDS = {
  conversation: 'text',
  extendedTextMessage: 'text',
  imageMessage: 'image',
  videoMessage: 'video',
  audioMessage: 'audio',
  documentMessage: 'document',
  stickerMessage: 'sticker',
  locationMessage: 'location',
  contactMessage: 'contact',
  pollCreationMessage: 'poll',
  pollCreationMessageV3: 'poll',
  reactionMessage: 'reaction',
  protocolMessage: 'protocol',
};
const MEDIA = new Set(['image', 'video', 'audio', 'document', 'sticker']);

/** @param {import('baileys').WAMessage} message @returns {Promise<Seen>} */
export async function seen(message) {
  const content = normalizeMessageContent(message.message) ?? {};
  const type = getContentType(content) ?? 'empty';
  const part = /** @type {any} */ (content)[type] ?? {};
  /** @type {Seen} */
  const view = {
    kind: KINDS[type] ?? type,
    text: typeof part === 'string' ? part : (part.text ?? part.caption ?? part.name ?? null),
    quoted_id: part.contextInfo?.stanzaId ?? undefined,
    target_id: part.key?.id ?? undefined,
  };
  if (type === 'contactMessage') view.text = part.displayName;
  if (MEDIA.has(view.kind)) {
    view.mime_type = part.mimetype ?? undefined;
    view.file_name = part.fileName ?? undefined;
    const hash = createHash('sha256');
    view.size_bytes = 0;
    for await (const chunk of await downloadMediaMessage(message, 'stream', {})) {
      hash.update(chunk);
      view.size_bytes += chunk.length;
    }
    view.sha256 = hash.digest('hex');
  }
  return view;
}

/** @param {Outgoing} message */
const file = (message) => ({
  caption: message.caption,
  mimetype: message.mime_type ?? 'application/octet-stream',
  fileName: message.file_name,
  // An empty thumbnail, so that Baileys looks for no image library to make one.
  jpegThumbnail: '',
});
/** @param {Outgoing} message */
const bytes = (message) => Buffer.from(message.media_base64 ?? '', 'base64');

/** @type {Record<string, (message: Outgoing) => import('baileys').AnyMessageContent>} */
const MAKERS = {
  text: (m) => ({ text: m.text ?? '', mentions: m.mentions, linkPreview: null }),
  image: (m) => ({ image: bytes(m), ...file(m) }),
  video: (m) => ({ video: bytes(m), ...file(m) }),
  audio: (m) => ({ audio: bytes(m), ...file(m), ptt: m.ptt, seconds: 1 }),
  document: (m) => ({ document: bytes(m), ...file(m), mimetype: file(m).mimetype }),
  sticker: (m) => ({ sticker: bytes(m), ...file(m) }),
  location: (m) => ({
    location: { degreesLatitude: m.latitude, degreesLongitude: m.longitude, name: m.text },
  }),
  contact: (m) => ({ contacts: { contacts: [{ displayName: m.text, vcard: m.vcard }] } }),
  poll: (m) => ({ poll: { name: m.text ?? '', values: m.options ?? [], selectableCount: 1 } }),
  reaction: (m) => ({ react: { text: m.text ?? '', key: m.target ?? {} } }),
  edit: (m) => ({ text: m.text ?? '', edit: m.target ?? {} }),
  revoke: (m) => ({ delete: m.target ?? {} }),
};

/** @param {Outgoing} message @returns {import('baileys').AnyMessageContent} */
export function contentOf(message) {
  const make = MAKERS[message.type];
  if (!make) throw new Error(`This client cannot send "${message.type}"`);
  return make(message);
}
