// A connection through the hub's relay, encrypted from end to end, for peers between which no direct path is found. It
// is loaded when it is needed. The protocol is described in Go's peeradapter/noise.go.
import type { Carrier } from './channel.js';
import type { Signal } from './documents.js';
import { type Bytes, fromBase64, randomHex, text, utf8 } from './encoding.js';
import { jitter, pause } from './hub.js';
import type { Identity } from './identity.js';
import type { Link } from './link.js';
import type { Mailbox } from './mailbox.js';
import { type CipherState, handshake, maxPlaintext } from './noise.js';
import type { Peer } from './peer.js';
import type { PeerRecord } from './transport.js';

const retryMin = 5000, retryMax = 80_000; // ms: between two tries to find a direct path
const meetTime = 15_000; // ms: how long a peer may take to come to the relay
const highWater = 1 << 20, drainPoll = 20;
const maxMessage = 65_535; // Noise's
const maxWaiting = 64 << 20; // bytes that wait to be decrypted: all windows of a session, and more than are sent in vain
const maxInbox = 8; // messages of a handshake

/** What a transport does with the hub's relay. */
export class Relays {
  constructor(private readonly own: Peer, private readonly mailbox: Mailbox, private readonly hub: string) {}

  /** Asks a peer to the relay, meets it there, and goes on looking for a direct path. */
  async call(p: PeerRecord, addr: string): Promise<Link> {
    const session = randomHex(16), signals = randomHex(16), signal = AbortSignal.timeout(meetTime);
    const ask = () => this.mailbox.send({ to: addr, session: signals, kind: 'relay', payload: utf8(JSON.stringify({ v: 1, session })) }, signal);
    const l = this.#adopt(p, addr, false, await this.#meet(addr, session, signals, false, ask));
    void this.#tend(p, l);
    return l;
  }

  /** Meets a peer that waits at the relay. */
  async answer(s: Signal): Promise<void> {
    const { v, session } = JSON.parse(text(s.payload)), t = this.own.transport;
    const given = new AbortController(), seat = !t.closed && v === 1 && typeof session === 'string' && t.incoming?.seat(s.from, () => given.abort(new Error('too many connections')));
    if (!seat) return;
    const link = this.#meet(s.from, session, s.session, true, async () => {}, given.signal).then(c => this.#adopt(t.peer(s.from), s.from, true, c));
    seat.hold(link);
    await link;
  }

  async #meet(peer: string, session: string, signals: string, incoming: boolean, arrived: () => Promise<void>, signal?: AbortSignal): Promise<Carrier> {
    const side = incoming ? 'share' : 'open', { ticket } = await this.own.hub.json<{ ticket: string }>('_relay', { session, side }, {}, 'relay'), self = this.mailbox.address;
    const name = incoming ? { session, initiator: peer, responder: self } : { session, initiator: self, responder: peer };
    const url = `${this.hub.replace(/^http/, 'ws')}/_relay?ticket=${encodeURIComponent(ticket)}`;
    return meet(url, name, self, this.own.identity, await this.mailbox.sealKey(peer, signals), arrived, signal);
  }

  #adopt(p: PeerRecord, addr: string, incoming: boolean, carrier: Carrier): Link {
    const t = this.own.transport, l = t.makeLink(addr, incoming, carrier);
    p.relay = l;
    t.config.onPeer({ peer: addr, state: 'connected', route: l.route });
    void l.ended.then(error => {
      if (p.relay === l) p.relay = undefined;
      t.config.onPeer({ peer: addr, state: 'closed', error });
    });
    if (t.closed) void l.close();
    const look = setInterval(() => {
      l.superseded ||= !!p.link?.alive;
      if (l.superseded && !incoming && !l.session.streams.size) void l.close();
      if (!l.alive) clearInterval(look);
    }, drainPoll);
    return l;
  }

  /** Looks for a direct path as long as a link goes through the hub. */
  async #tend(p: PeerRecord, l: Link): Promise<void> {
    const t = this.own.transport;
    for (let wait = retryMin; await pause(jitter(wait)), l.alive && !l.superseded && t.config.relay.mode !== 'hub'; wait = Math.min(2 * wait, retryMax)) {
      await t.direct(p, l.peer).catch(() => {});
    }
  }
}

/** Which connection it is: the session is known to the two peers alone. */
interface RelayName { session: string; initiator: string; responder: string }

/** Meets a peer at the relay. url is that of this side's WebSocket; arrived is called when the socket is open. */
export async function meet(url: string, name: RelayName, self: string, id: Identity, otherKey: string, arrived: () => Promise<unknown>, signal?: AbortSignal): Promise<Carrier> {
  const ws = new WebSocket(url), inbox: Bytes[] = [];
  ws.binaryType = 'arraybuffer';
  let wake = () => {}, why: Error | undefined;
  const end = (e: Error) => {
    why ??= e;
    wake();
  };
  ws.onmessage = m => {
    if (typeof m.data === 'string') return end(new Error('the hub sent text'));
    if (inbox.push(new Uint8Array(m.data)) > maxInbox || m.data.byteLength > maxMessage) {
      inbox.length = 0;
      ws.close();
      end(new Error('the peer sent too much at once'));
    }
    wake();
  };
  ws.onclose = ws.onerror = () => end(new Error('the connection through the hub is lost'));
  const timer = setTimeout(() => end(new Error('the peer did not come to the relay')), meetTime), give = () => end(signal!.reason as Error);
  signal?.addEventListener('abort', give);
  if (signal?.aborted) give();
  const next = async (): Promise<Bytes> => {
    while (!inbox.length && !why) await new Promise<void>(go => wake = go);
    if (!inbox.length) throw why;
    return inbox.shift()!;
  };
  try {
    while (ws.readyState !== WebSocket.OPEN) {
      if (why) throw why;
      await new Promise<void>(go => {
        wake = go;
        ws.onopen = () => go();
      });
    }
    await arrived();
    const initiator = self === name.initiator, prologue = utf8(['loveseat relay v1', name.session, name.initiator, name.responder].join('\n'));
    const ciphers = await handshake({
      initiator, prologue, own: fromBase64(id.keys.seal), agree: pub => id.agree(pub), other: fromBase64(otherKey),
    }, m => ws.send(m), next);
    return new RelayChannel(ws, ciphers, inbox);
  } catch (e) {
    ws.close();
    throw e;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', give);
  }
}

/** What goes through the hub, as a wire. */
class RelayChannel implements Carrier {
  onEnd?: (why: Error) => void;
  #deliver?: (chunk: Bytes) => void;
  #early: Bytes[] = [];
  #ended?: Error;
  #read = 0;
  #written = 0;
  #queued = 0; // bytes that wait to be encrypted
  #toRead = 0; // bytes that wait to be decrypted
  #sending: Promise<unknown> = Promise.resolve();
  #receiving: Promise<unknown> = Promise.resolve();

  constructor(private readonly ws: WebSocket, private readonly ciphers: { send: CipherState; receive: CipherState }, early: Bytes[]) {
    ws.onmessage = m => this.#take(typeof m.data === 'string' ? undefined : new Uint8Array(m.data));
    ws.onclose = ws.onerror = () => {
      this.#receiving = this.#receiving.then(() => this.end(new Error('the connection through the hub is lost'))); // after what has come
    };
    for (const m of early) this.#take(m);
  }

  /** Decrypts one message after the other. */
  #take(message?: Bytes): void {
    const size = message?.length ?? 0;
    this.#toRead += size;
    if (this.#toRead > maxWaiting || size > maxMessage) return this.end(new Error('the peer sent too much at once'));
    this.#receiving = this.#receiving.then(async () => {
      if (this.#ended) return;
      const chunk = await this.ciphers.receive.decrypt(message!);
      this.#toRead -= size;
      if (!chunk.length) return this.end(new Error('the peer closed the connection'));
      this.#read += chunk.length;
      if (this.#deliver) this.#deliver(chunk);
      else this.#early.push(chunk);
    }).catch(() => this.end(new Error('what came through the hub is not what the peer sent')));
  }

  set onData(fn: (chunk: Bytes) => void) {
    this.#deliver = fn;
    for (const chunk of this.#early.splice(0)) fn(chunk);
  }

  send(chunk: Bytes): void {
    for (let at = 0; at < chunk.length; at += maxPlaintext) this.#encrypt(chunk.slice(at, at + maxPlaintext));
  }

  #encrypt(chunk: Bytes): void {
    if (this.#ended) return;
    this.#queued += chunk.length;
    this.#written += chunk.length;
    this.#sending = this.#sending.then(async () => {
      const m = await this.ciphers.send.encrypt(chunk);
      this.#queued -= chunk.length;
      if (!this.#ended && this.ws.readyState === WebSocket.OPEN) this.ws.send(m);
    }).catch(e => this.end(e as Error));
  }

  get #waiting(): number {
    return this.#queued + this.ws.bufferedAmount;
  }

  get full(): boolean {
    return this.#waiting > highWater;
  }

  room(): Promise<void> | undefined {
    if (this.#ended || !this.full) return undefined;
    return this.#until(() => this.#waiting <= highWater / 4, Infinity);
  }

  /** Waits until ok, the end, or ms have passed. */
  async #until(ok: () => boolean, ms: number): Promise<void> {
    const till = Date.now() + ms;
    while (!this.#ended && !ok() && Date.now() < till) await new Promise(r => setTimeout(r, drainPoll));
  }

  moved(): number {
    return this.#read + this.#written - this.#waiting;
  }

  end(why: Error): void {
    if (this.#ended) return;
    this.#ended = why;
    this.#deliver = () => {};
    this.ws.close();
    this.onEnd?.(why);
  }

  async close(ms: number): Promise<void> {
    this.#encrypt(new Uint8Array()); // says that nothing follows
    await this.#sending;
    await this.#until(() => !this.#waiting, ms);
    this.end(new Error('closed'));
  }
}
