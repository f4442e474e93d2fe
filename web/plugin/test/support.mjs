// What the tests share: wires in memory, a peer connection in memory, PouchDBs in memory.
import { createRequire } from 'node:module';
import { couchHandler } from '../lib/couch.js';
import { Identity } from '../lib/identity.js';
import { Peer } from '../lib/peer.js';

const require = createRequire(import.meta.url);
export const PouchDB = require('pouchdb').plugin(require('pouchdb-adapter-memory')).plugin(require('pouchdb-find'));

let n = 0;
/** A new PouchDB in memory. */
export const pouch = (name = `db${++n}`) => new PouchDB(`${name}-${process.pid}-${++n}`, { adapter: 'memory' });

/** PouchDB in Node asks responses for Buffers, as node-fetch's have them. */
export const nodeFetch = fetch => async (...args) => {
  const r = await fetch(...args);
  return Object.assign(r, { buffer: async () => Buffer.from(await r.arrayBuffer()) });
};

/** An opened share as a PouchDB. */
export const client = r => new PouchDB(r.url, { fetch: nodeFetch(r.fetch), skip_setup: true });

/** Two ends of a wire that delivers in pieces of the given size, and has room for `room` bytes. */
export function wires({ piece = Infinity, room = 64 << 10 } = {}) {
  const end = () => ({
    sent: [], queued: 0, waiting: [], ended: undefined,
    send(chunk) {
      if (this.ended) return;
      this.sent.push(chunk);
      this.queued += chunk.length;
      setImmediate(() => {
        this.queued -= chunk.length;
        for (const go of this.waiting.splice(0)) go();
        for (let at = 0; at < chunk.length && !this.other.ended; at += piece) this.other.onData?.(chunk.slice(at, at + piece));
      });
    },
    room() { return this.queued < room ? undefined : new Promise(r => this.waiting.push(r)); },
    moved: () => 0,
    stop(why) {
      for (const w of [this, this.other]) {
        if (w.ended) continue;
        w.ended = why;
        for (const go of w.waiting.splice(0)) go();
        w.onEnd?.(why);
      }
    },
    async close() { this.stop(new Error('closed')); },
  });
  const a = end(), b = end();
  a.other = b;
  b.other = a;
  return [a, b];
}

/** Collects a stream until its end. */
export async function drain(stream) {
  const chunks = [];
  for (let c; (c = await stream.read());) chunks.push(c);
  return Buffer.concat(chunks);
}

class FakeChannel extends EventTarget {
  ordered = true; maxRetransmits = null; maxPacketLifeTime = null; readyState = 'connecting'; bufferedAmount = 0;
  constructor(pc, label, protocol) { super(); Object.assign(this, { pc, label, protocol }); }
  send(data) {
    if (this.readyState !== 'open') throw new Error('not open');
    const copy = Uint8Array.from(data).buffer, { other } = this;
    this.bufferedAmount += copy.byteLength;
    setImmediate(() => {
      this.bufferedAmount -= copy.byteLength;
      if (this.bufferedAmount <= this.bufferedAmountLowThreshold) this.onbufferedamountlow?.();
      if (other.readyState === 'open') other.onmessage?.({ data: copy });
    });
  }
  close() {
    for (const c of [this, this.other]) {
      if (!c || c.readyState === 'closed') continue;
      c.readyState = 'closed';
      setImmediate(() => c.onclose?.());
    }
  }
}

const connections = new Map();

/** A peer connection in memory: descriptions name their connection, candidates are made up. */
export class FakeRTCPeerConnection {
  static made = 0;
  id = String(++FakeRTCPeerConnection.made);
  connectionState = 'new'; iceConnectionState = 'new'; iceGatheringState = 'new'; sctp = null;
  constructor(config) { this.config = config; connections.set(this.id, this); }
  createDataChannel(label, { protocol }) { return this.channel = new FakeChannel(this, label, protocol); }
  async createOffer() { return { type: 'offer', sdp: `v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fake:${this.id}\r\n` }; }
  async createAnswer() { return { ...await this.createOffer(), type: 'answer' }; }
  async setLocalDescription(d) {
    this.localDescription = d;
    setTimeout(() => this.onicecandidate?.({ candidate: { candidate: 'candidate:x', toJSON: () => ({ candidate: 'candidate:x', sdpMid: '0' }) } }), 8);
    if (d.type === 'answer') setTimeout(() => this.meet(), 12);
  }
  async setRemoteDescription(d) { this.remote = /a=fake:(\d+)/.exec(d.sdp)[1]; if (d.type === 'answer') setTimeout(() => this.meet(), 1); }
  async addIceCandidate() { this.candidates = (this.candidates ?? 0) + 1; }
  async getStats() { return new Map(); }
  meet() {
    const other = connections.get(this.remote);
    if (other?.remote !== this.id || this.sctp || this.connectionState === 'closed' || other.connectionState === 'closed') return;
    const [offerer, answerer] = this.channel ? [this, other] : [other, this];
    const theirs = new FakeChannel(answerer, offerer.channel.label, offerer.channel.protocol);
    Object.assign(theirs, { other: offerer.channel, readyState: 'open' });
    offerer.channel.other = theirs;
    answerer.channel = theirs;
    for (const pc of [offerer, answerer]) Object.assign(pc, { connectionState: 'connected', iceConnectionState: 'connected', sctp: { state: 'connected', transport: { iceTransport: {}, state: 'connected' } } });
    answerer.ondatachannel?.({ channel: theirs });
    offerer.channel.readyState = 'open';
    offerer.channel.onopen?.();
  }
  close() {
    if (this.connectionState === 'closed') return;
    this.connectionState = 'closed';
    connections.delete(this.id);
    this.channel?.close();
  }
}

/** A hub in this process: fetch below a PouchDB served over CouchDB's API. */
export function hub(db = pouch('hub')) {
  const handle = couchHandler(db, { name: 'hub', uuid: 'hub', readOnly: false, peer: 'hub' });
  const fetch = (path, init) => fetch.down ? Promise.reject(new TypeError('the hub is down')) : handle(new Request(`http://hub/hub/${path}`, init));
  fetch.db = db;
  return fetch;
}

/** Joins a hub with a new identity; the peer is closed when the test ends. */
export async function join(t, fetch, options = {}) {
  const peer = await Peer.join({ fetch, hub: 'http://hub/hub', identity: await Identity.create(), RTCPeerConnection: FakeRTCPeerConnection, timeout: 10_000, ...options });
  t.after(() => peer.close());
  return peer;
}

/** Repeats check until it is truthy. */
export async function eventually(check, ms = 15_000) {
  for (const till = Date.now() + ms; ;) {
    const v = await check();
    if (v) return v;
    if (Date.now() > till) throw new Error(`not within ${ms} ms: ${check}`);
    await new Promise(r => setTimeout(r, 5));
  }
}
