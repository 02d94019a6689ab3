// @ts-check
/**
 * How Baileys is led to the simulator without changing a file of it.
 *
 * Three things stand between Baileys and a server that is not WhatsApp's, and each has a place
 * where a program may decide: the pinned root of the Noise certificate chain is an exported object,
 * sockets and uploads take an `https.Agent`, and downloads go through the global `fetch`.
 * The chat socket goes straight to the simulator, media through its proxy that plays every host;
 * nothing of this process can reach the Internet.
 */

import http from 'node:http';
import https from 'node:https';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import tls from 'node:tls';
import { WA_CERT_DETAILS } from 'baileys';

/**
 * What the simulator answers to GET /trust.
 *
 * @typedef {object} Trust
 * @property {string} websocket_url the chat socket on a loopback port
 * @property {string} proxy_url     the loopback port that plays every host
 * @property {string} ca_file       PEM file of the authority behind its TLS certificates
 * @property {string} root_key      public key of the Noise root, 32 bytes in hexadecimal
 */

/** An `https.Agent` whose connections go through one CONNECT proxy and trust one authority. */
class TunnelAgent extends https.Agent {
  /**
   * @param {URL} proxy
   * @param {Buffer} authority PEM
   */
  constructor(proxy, authority) {
    super({ keepAlive: false });
    this.proxy = proxy;
    this.authority = authority;
  }

  /**
   * @param {https.RequestOptions} options
   * @param {(error: Error | null, socket?: import('node:stream').Duplex) => void} callback
   * @returns {undefined} the socket comes through the callback
   */
  createConnection(options, callback) {
    const host = String(options.host ?? options.hostname);
    http
      .request({
        host: this.proxy.hostname,
        port: this.proxy.port,
        method: 'CONNECT',
        path: `${host}:${options.port ?? 443}`,
      })
      .once('connect', (response, socket) => {
        if (response.statusCode !== 200) {
          socket.destroy();
          callback(new Error(`The proxy answered ${response.statusCode} to CONNECT`));
          return;
        }
        const secure = tls.connect({ socket, servername: host, ca: this.authority });
        secure.once('secureConnect', () => callback(null, secure));
        secure.once('error', callback);
      })
      .once('error', callback)
      .end();
    return undefined;
  }
}

/**
 * The part of `fetch` that Baileys uses to download: no request body, no redirects.
 *
 * @param {https.Agent} agent
 * @returns {typeof fetch}
 */
function fetchThrough(agent) {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      if (init.body) {
        reject(new Error('Only requests without a body go through here'));
        return;
      }
      const headers = Object.fromEntries(new Headers(init.headers));
      https
        .request(String(input), { method: init.method ?? 'GET', headers, agent }, (response) => {
          const body = /** @type {ReadableStream} */ (Readable.toWeb(response));
          resolve(new Response(body, { status: response.statusCode }));
        })
        .once('error', reject)
        .end();
    });
}

/**
 * Makes this process trust one simulator, and reach nothing else.
 *
 * @param {string} trustUrl address of GET /trust
 * @returns {Promise<{ chatAgent: https.Agent, mediaAgent: https.Agent, websocketUrl: string }>}
 */
export async function trustSimulator(trustUrl) {
  const trust = /** @type {Trust} */ (await (await fetch(trustUrl)).json());
  const authority = await readFile(trust.ca_file);
  const mediaAgent = new TunnelAgent(new URL(trust.proxy_url), authority);
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(trust.root_key, 'hex');
  globalThis.fetch = fetchThrough(mediaAgent);
  const chatAgent = new https.Agent({ ca: authority, keepAlive: false });
  return { chatAgent, mediaAgent, websocketUrl: trust.websocket_url };
}
