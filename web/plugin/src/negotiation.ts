// One session of signals, from offer to open data channel. Its messages are the
// payloads of signals, as JSON:
//
//   offer      {"v":1, "time":…, "sdp":…}     from who dials
//   answer     {"v":1, "sdp":…}               or bye, if it is refused
//   candidate  {"v":1, "candidates":[…]}      both ways, any number of times
//   bye        {"v":1, "reason":…}            from who gives up
import { Channel, channelLabel, channelProtocol, checkChannel } from './channel.js';
import { payloadJSON, type Signal } from './documents.js';
import { utf8 } from './encoding.js';
import type { Signaler } from './mailbox.js';

/** The content of a signal. */
export interface Message { v: 1; time?: number; sdp?: string; candidates?: RTCIceCandidateInit[]; reason?: string }

/** A signal whose payload has been read and checked. */
export interface Inbound extends Omit<Signal, 'payload'> { message: Message }

const maxCandidates = 64; // in one session
const gatherGrace = 5; // ms: enough for the candidates of this host; later ones follow
const batchWait = 20; // ms

/** Reads a signal. Throws if it is not one that a negotiation may get. */
export function readMessage(s: Signal): Inbound {
  const m = payloadJSON(s.payload) as Message | null;
  if (m?.v !== 1 || (m.candidates && (!Array.isArray(m.candidates) || m.candidates.length > maxCandidates)) ||
    (m.reason !== undefined && (typeof m.reason !== 'string' || m.reason.length > 1024)) ||
    (/^(offer|answer)$/.test(s.kind) && !describesChannel(m.sdp)) || (s.kind === 'offer' && typeof m.time !== 'number')) {
    throw new Error('malformed signal');
  }
  return { to: s.to, from: s.from, session: s.session, kind: s.kind, message: m };
}

/** Whether a description is of one data channel transport and nothing else: a stranger must not make us set up audio and video. */
function describesChannel(sdp: unknown): boolean {
  if (typeof sdp !== 'string') return false;
  const count = (prefix: string) => ('\n' + sdp).split('\n' + prefix).length - 1;
  return count('m=') === 1 && count('m=application ') === 1 && count('a=candidate:') <= maxCandidates;
}

/** Makes the payload of a signal. */
export const payload = (m: Omit<Message, 'v'>) => utf8(JSON.stringify({ v: 1, ...m }));

/** How far a negotiation came. */
export type Stage = 'ice servers' | 'signal' | 'answer' | 'ice' | 'dtls' | 'channel';

const hints: Record<Stage, string> = {
  'ice servers': 'cannot learn the STUN and TURN servers',
  signal: 'cannot send signals through the hub',
  answer: 'no answer: it is offline or shares nothing',
  ice: 'no path between the peers was found; a TURN server helps where a NAT or firewall is in between',
  dtls: 'a path was found, but no secure session came up on it',
  channel: 'the data channel did not open',
};

/** Says why a peer could not be reached. */
export class ConnectError extends Error {
  constructor(readonly peer: string, readonly stage: Stage, override readonly cause: Error) {
    super(`peer ${peer}: ${hints[stage]} (${cause.message})`);
  }
}

/** The peer does not want the connection, or gave it up. */
export class RefusedError extends Error {
  constructor(reason: string) {
    super(`refused by the peer: ${reason}`);
  }
}

/** What a negotiation needs to know. */
export interface NegotiationConfig {
  signaler: Signaler;
  /** The STUN and TURN servers for the next connection. */
  iceServers: () => Promise<RTCIceServer[]>;
  relayOnly: boolean;
  /** Bounds a negotiation, in milliseconds. */
  timeout: number;
  RTCPeerConnection: typeof RTCPeerConnection;
}

/** One negotiation with a peer: ours, or an answer to its offer. */
export class Negotiation {
  pc?: RTCPeerConnection;
  readonly #over = new AbortController();
  #inbox: Inbound[] = [];
  #ours?: Omit<Signal, 'from'>;
  #sending: Promise<unknown> = Promise.resolve();
  #delivered = false;
  #described = false;
  #taken = 0; // candidates of the peer
  #batch: RTCIceCandidateInit[] = [];
  #fail!: (e: Error) => void;

  constructor(readonly peer: string, readonly session: string, readonly offer: Inbound | undefined,
    private readonly time: number, private readonly config: NegotiationConfig) {}

  /** Negotiates until the data channel is open. Throws a ConnectError. */
  async run(): Promise<Channel> {
    const timer = setTimeout(() => this.cancel(new Error('time is up')), this.config.timeout);
    try {
      return await new Promise<Channel>((resolve, reject) => {
        this.#fail = reject;
        this.#over.signal.addEventListener('abort', () => reject(this.#over.signal.reason));
        this.#over.signal.throwIfAborted();
        this.#negotiate(resolve).catch(reject);
      });
    } catch (e) {
      const failed = new ConnectError(this.peer, this.#stage(), e as Error);
      this.#over.abort(e);
      this.pc?.close();
      throw failed;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives up. */
  cancel(why: Error): void {
    this.#over.abort(why);
  }

  async #negotiate(opened: (c: Channel) => void): Promise<void> {
    const iceServers = await this.config.iceServers();
    this.#over.signal.throwIfAborted();
    const pc = this.pc = new this.config.RTCPeerConnection({ iceServers, iceTransportPolicy: this.config.relayOnly ? 'relay' : 'all' });
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'failed' || pc.connectionState === 'closed') this.#fail(new Error(`the peer connection has ${pc.connectionState}`));
    };
    const take = (dc: RTCDataChannel) => {
      const channel = new Channel(dc); // at once: the first message may come with the channel
      const ready = () => {
        try {
          checkChannel(dc);
          opened(channel);
        } catch (e) {
          this.#fail(e as Error);
        }
      };
      if (dc.readyState === 'open') ready();
      else dc.onopen = ready;
    };
    if (this.offer) {
      pc.ondatachannel = e => {
        pc.ondatachannel = null; // one is enough
        take(e.channel);
      };
      await this.#setRemote('offer', this.offer.message.sdp!);
    } else {
      take(pc.createDataChannel(channelLabel, { protocol: channelProtocol }));
    }
    await this.#describe(pc);
  }

  /** Makes our description, an offer or the answer to one, and sends it before gathering ends. */
  async #describe(pc: RTCPeerConnection): Promise<void> {
    await pc.setLocalDescription(this.offer ? await pc.createAnswer() : await pc.createOffer());
    await new Promise<void>(r => {
      const timer = setTimeout(r, gatherGrace);
      pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && (clearTimeout(timer), r());
    });
    const d = pc.localDescription!;
    pc.onicecandidate = e => e.candidate?.candidate && this.#gathered(e.candidate.toJSON());
    this.#ours = this.#signal(d.type, { sdp: d.sdp, time: this.time });
    this.#send(this.#ours);
  }

  #gathered(c: RTCIceCandidateInit): void {
    if (this.#batch.push(c) > 1) return;
    setTimeout(() => this.#send(this.#signal('candidate', { candidates: this.#batch.splice(0, maxCandidates) })), batchWait);
  }

  #signal(kind: string, m: Omit<Message, 'v'>): Omit<Signal, 'from'> {
    return { to: this.peer, session: this.session, kind, payload: payload(m) };
  }

  /** Sends one after the other, because the order of their numbers counts. */
  #send(s: Omit<Signal, 'from'>): void {
    this.#sending = this.#sending.then(async () => {
      if (this.#over.signal.aborted) return;
      await this.config.signaler.send(s, this.#over.signal);
      this.#delivered = true;
    }).catch(e => this.#fail(e as Error));
  }

  /** Sends our offer again, which may have been lost. */
  resend(): void {
    if (this.#ours) this.#send(this.#ours);
  }

  /** Takes a signal of this session; one that does not fit its state is a duplicate. */
  receive(got: Inbound): void {
    if (got.kind === 'bye') {
      this.#fail(new RefusedError(got.message.reason ?? ''));
    } else if (got.kind === 'candidate') {
      if (this.#described) this.#addCandidates(got);
      else if (this.#inbox.length < maxCandidates) this.#inbox.push(got);
    } else if (got.kind === 'answer' && !this.offer && this.#ours && !this.#described) {
      this.#delivered = true;
      this.#setRemote('answer', got.message.sdp!).catch(e => this.#fail(e as Error));
    }
  }

  async #setRemote(type: RTCSdpType, sdp: string): Promise<void> {
    await this.pc!.setRemoteDescription({ type, sdp });
    this.#described = true;
    for (const got of this.#inbox.splice(0)) this.#addCandidates(got);
  }

  /** Tries the peer's candidates. One that leads nowhere or is not understood is no reason to give up. */
  #addCandidates(got: Inbound): void {
    for (const c of got.message.candidates ?? []) {
      if (++this.#taken > maxCandidates) return;
      try {
        this.pc!.addIceCandidate(c).catch(() => {});
      } catch { /* not an object */ }
    }
  }

  #stage(): Stage {
    if (!this.pc) return 'ice servers';
    if (!this.#delivered) return 'signal';
    if (!this.#described) return 'answer';
    if (!/^(connected|completed)$/.test(this.pc.iceConnectionState)) return 'ice';
    return this.pc.sctp?.transport?.state === 'connected' ? 'channel' : 'dtls';
  }
}
