// The order of single characters in ICU's root collation, as Node's Intl has it, for gen.go:
// [[level, characters…], …] in ascending order, level being the difference from the characters before
// (1 primary, 2 secondary, 3 tertiary); characters in one row are equal. Only characters that stay
// themselves in NFD are in it: the others are ordered by their decomposition.
//
//	node gen.mjs > order.json && go run gen.go order.json > root.txt
//	node gen.mjs sample > testdata/icu.json
const all = new Intl.Collator('und');
const base = new Intl.Collator('und', { sensitivity: 'base' });
const accent = new Intl.Collator('und', { sensitivity: 'accent' });

if (process.argv[2] === 'sample') {
  sample();
  process.exit();
}

const chars = [];
for (let c = 0; c < 0x110000; c++) {
  if (c >= 0xd800 && c < 0xe000) continue;
  const s = String.fromCodePoint(c);
  if (!/\p{Cn}|\p{Co}/u.test(s) && s.normalize('NFD') === s) chars.push(s);
}
chars.sort((a, b) => all.compare(a, b) || a.codePointAt(0) - b.codePointAt(0));

const rows = [];
let before = '';
for (const s of chars) {
  const level = base.compare(before, s) ? 1 : accent.compare(before, s) ? 2 : all.compare(before, s) ? 3 : 0;
  if (level || !rows.length) rows.push([level, s]);
  else rows.at(-1).push(s);
  before = s;
}
// Those that are worth as much as their compatibility decomposition, but for their form.
const compat = chars.filter((s) => s.normalize('NFKD') !== s && !base.compare(s, s.normalize('NFKD')) && base.compare(s, ''));
process.stdout.write(JSON.stringify({ icu: process.versions.icu, rows, compat }));

// sample prints characters of all blocks, alone and between common ones, and words of these, in ICU's order; equal
// ones are in one row. Left out are combining marks, what decomposes since Unicode 16 (Go knows 15), and squared
// words, whose letters no data that JavaScript shows tells.
function sample() {
  let seed = 7;
  const below = (n) => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 8) % n;
  const assigned = [];
  for (let c = 0; c < 0x110000; c++) {
    const s = String.fromCodePoint(c);
    if (!/[\p{Cn}\p{Co}\p{Cs}\p{M}\u{11380}-\u{113ff}\u{1cc00}-\u{1cfff}\u{1f18f}-\u{1f1ac}]/u.test(s)) assigned.push(s);
  }
  const common = [...'aAbBzZ éÉñöß09.-_\'’“"()/€$абвЇйЯέω文字日本語かカ한글אبไ😀🤔🥰👍🏽🇩🇪❤️'];
  const basic = assigned.filter((s) => s < '\u3000');
  const pick = (list) => list[below(list.length)];
  const strings = new Set();
  for (let i = 0; i < 1500; i++) strings.add(pick(assigned));
  for (let i = 0; i < 600; i++) strings.add(pick(common) + pick(assigned) + pick(common));
  for (let i = 0; i < 900; i++) strings.add(Array.from({ length: 1 + below(5) }, () => pick(common)).join(''));
  for (let i = 0; i < 900; i++) strings.add(pick(basic) + (below(2) ? pick(common) : ''));
  const rows = [];
  for (const s of [...strings].sort((a, b) => all.compare(a, b) || (a < b ? -1 : 1))) {
    if (rows.length && !all.compare(rows.at(-1)[0], s)) rows.at(-1).push(s);
    else rows.push([s]);
  }
  process.stdout.write('[\n' + rows.map((r) => JSON.stringify(r)).join(',\n') + '\n]\n');
}
