// A QR code, drawn as one path.
import { useEffect } from 'preact/hooks';
import { useSignal } from '@preact/signals';

export function QR({ text, label }: { text: string; label: string }) {
  const drawn = useSignal<{ size: number; d: string }>();
  useEffect(() => {
    void import('uqr').then(({ encode }) => {
      const { data, size } = encode(text, { ecc: 'M', border: 2 });
      drawn.value = { size, d: data.flatMap((row, y) => row.flatMap((on, x) => on ? [`M${x} ${y}h1v1h-1z`] : [])).join('') };
    });
  }, [text]);
  const { size = 1, d = '' } = drawn.value ?? {};
  return <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shape-rendering="crispEdges"><path d={d} /></svg>;
}
