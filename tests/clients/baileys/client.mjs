// @ts-check
/**
 * A WhatsApp client that no one here wrote, steered by JSON lines.
 *
 *     node client.mjs --trust http://127.0.0.1:54330/trust --state DIR [--phone NUMBER] [--log LEVEL]
 *
 * It links by QR, or by a code typed on the phone when `--phone` is given; with a state that is
 * linked already it just logs in. Lines in: {"do": "send" | "read" | "logout" | "quit", "ref", ...};
 * each but `quit` is answered by {"event": "done" | "refused", "ref"}. Lines out have an "event": qr, code,
 * connected, caught_up, disconnected, message, undecryptable, receipt, history. Logs go to stderr.
 */

import { Console } from 'node:console';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import {
  DisconnectReason,
  makeWASocket,
  proto,
  useMultiFileAuthState,
  WAMessageStubType,
} from 'baileys';
import { contentOf, seen } from './content.mjs';
import { trustSimulator } from './trust.mjs';

// libsignal prints to the console; stdout belongs to the events.
globalThis.console = new Console(process.stderr);

const { values: args } = parseArgs({
  options: {
    trust: { type: 'string' },
    state: { type: 'string' },
    phone: { type: 'string' },
    log: { type: 'string', default: 'warn' },
  },
});
if (!args.trust || !args.state) throw new Error('Both --trust and --state are needed');

const RECONNECT_AFTER_MS = 250;
const STATUS = proto.WebMessageInfo.Status;
/** @type {Record<number, string>} */
const RECEIPTS = {
  [STATUS.ERROR]: 'failed',
  [STATUS.SERVER_ACK]: 'sent',
  [STATUS.DELIVERY_ACK]: 'delivered',
  [STATUS.READ]: 'read',
  [STATUS.PLAYED]: 'played',
};
/** Ends after which only a person can help; any other close is followed by a new connection. */
const FINAL = new Set([
  DisconnectReason.loggedOut,
  DisconnectReason.forbidden,
  DisconnectReason.connectionReplaced,
  DisconnectReason.multideviceMismatch,
]);

/** @param {string} event @param {Record<string, unknown>} [fields] */
const emit = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

/** @param {string} level @returns {import('baileys').SocketConfig['logger']} */
function stderrLogger(level) {
  const levels = ['trace', 'debug', 'info', 'warn', 'error'];
  /** @param {string} name */
  const at = (name) => (/** @type {unknown} */ fields, /** @type {string} */ sentence) => {
    if (levels.indexOf(name) >= levels.indexOf(level)) console.error(name, sentence ?? '', fields);
  };
  const [trace, debug, info, warn, error] = levels.map(at);
  return { level, child: () => logger, trace, debug, info, warn, error };
}
const logger = stderrLogger(args.log);

const { chatAgent, mediaAgent, websocketUrl } = await trustSimulator(args.trust);
const { state, saveCreds } = await useMultiFileAuthState(args.state);
/** @type {Map<string, import('baileys').proto.IMessage>} what a device that could not decrypt asks for again */
const sent = new Map();
let leaving = false;
let saved = Promise.resolve();
let socket = connect();

function connect() {
  const fresh = makeWASocket({
    auth: state,
    logger,
    waWebSocketUrl: websocketUrl,
    agent: chatAgent,
    fetchAgent: mediaAgent,
    markOnlineOnConnect: true,
    syncFullHistory: false,
    getMessage: async (key) => sent.get(key.id ?? ''),
  });
  fresh.ev.on('creds.update', () => {
    saved = saved.then(saveCreds);
  });
  fresh.ev.on('connection.update', onConnection);
  fresh.ev.on('messages.upsert', async ({ messages, type }) => {
    for (const message of messages) await onMessage(message, type);
  });
  fresh.ev.on('messages.update', (updates) => {
    for (const { key, update } of updates) {
      if (update.status == null) continue;
      emit('receipt', { id: key.id, chat: key.remoteJid, type: RECEIPTS[update.status] });
    }
  });
  fresh.ev.on('message-receipt.update', (updates) => {
    for (const { key, receipt } of updates) emitReader(key, receipt);
  });
  fresh.ev.on('messaging-history.set', ({ chats, messages, progress }) => {
    emit('history', { chats: chats.length, messages: messages.length, progress });
  });
  return fresh;
}

let asked = false;
/** @param {Partial<import('baileys').ConnectionState>} update */
async function onConnection(update) {
  if (update.qr && args.phone) {
    if (asked) return;
    asked = true;
    emit('code', { code: await socket.requestPairingCode(args.phone) });
  } else if (update.qr) {
    emit('qr', { qr: update.qr });
  }
  if (update.connection === 'open') {
    emit('connected', { jid: socket.user?.id, lid: socket.user?.lid });
  }
  if (update.receivedPendingNotifications) emit('caught_up');
  if (update.connection === 'close') {
    const error = /** @type {import('@hapi/boom').Boom | undefined} */ (update.lastDisconnect?.error);
    const code = error?.output?.statusCode;
    if (!leaving) emit('disconnected', { code, final: FINAL.has(code ?? 0), reason: error?.message });
    if (leaving || FINAL.has(code ?? 0)) return leave();
    const pause_ms = code === DisconnectReason.restartRequired ? 0 : RECONNECT_AFTER_MS;
    setTimeout(() => (socket = connect()), pause_ms);
  }
}

/** @param {import('baileys').WAMessage} message @param {string} upsert */
async function onMessage(message, upsert) {
  const { key } = message;
  const about = {
    id: key.id,
    chat: key.remoteJid,
    chat_alt: key.remoteJidAlt,
    from: key.participant || key.remoteJid,
    from_alt: key.participant ? key.participantAlt : key.remoteJidAlt,
    from_me: Boolean(key.fromMe),
    name: message.pushName,
    upsert,
  };
  if (message.messageStubType === WAMessageStubType.CIPHERTEXT) {
    emit('undecryptable', about);
  } else if (message.message) {
    emit('message', { ...about, ...(await seen(message)) });
  }
  // Baileys folds receipts that come early into the copy of what was sent.
  if (key.fromMe && message.status && message.status > STATUS.PENDING) {
    emit('receipt', { id: key.id, chat: key.remoteJid, type: RECEIPTS[message.status] });
  }
  for (const receipt of message.userReceipt ?? []) emitReader(key, receipt);
}

/**
 * Somebody in a group got or read a message.
 *
 * @param {import('baileys').WAMessageKey} key
 * @param {import('baileys').proto.IUserReceipt} receipt
 */
function emitReader(key, receipt) {
  const type = receipt.readTimestamp ? 'read' : 'delivered';
  emit('receipt', { id: key.id, chat: key.remoteJid, reader: receipt.userJid, type });
}

async function leave() {
  await saved;
  process.exit(0);
}

/** @type {Record<string, (request: any) => Promise<Record<string, unknown>>>} */
const ORDERS = {
  async send(request) {
    const message = await socket.sendMessage(request.to, contentOf(request));
    if (message?.key.id && message.message) sent.set(message.key.id, message.message);
    return { id: message?.key.id };
  },
  async read(request) {
    await socket.readMessages([
      { remoteJid: request.chat, id: request.id, participant: request.sender ?? undefined },
    ]);
    return {};
  },
  async logout() {
    leaving = true;
    await socket.logout();
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.do === 'quit') break;
  const order = ORDERS[request.do];
  if (!order) throw new Error(`Unknown order "${request.do}"`);
  order(request).then(
    (result) => emit('done', { ref: request.ref, ...result }),
    (error) => emit('refused', { ref: request.ref, reason: String(error?.message ?? error) }),
  );
}
leaving = true;
await socket.end(undefined);
await leave();
