// Peers who want to open what this page shares, when it asks for each.
import { asks } from '../state/counts.js';
import { verificationOf } from '../state/verification.js';
import { PeerCode } from '../parts/peer.js';

export function Asks() {
  if (!asks.value.length) return null;
  return <section class="asks" aria-label="Peers who ask to be let in" aria-live="polite">
    {asks.value.map(a => <div class="card" key={a.peer + a.share}>
      <p><PeerCode peer={a.peer} /> wants to open <strong>{a.share}</strong>.</p>
      <p class="hint">Verification code: <code class="wrap">{verificationOf(a.me, a.peer) ?? '…'}</code></p>
      <div class="actions"><button type="button" class="primary" onClick={() => a.answer(true)}>Let in</button><button type="button" onClick={() => a.answer(false)}>Refuse</button></div>
    </div>)}
  </section>;
}
