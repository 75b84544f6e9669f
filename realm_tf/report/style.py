"""The style sheet of the report page: light and dark, wide and narrow, no outside resource."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #ffffff; --ink: #1c1d1f; --soft: #62656b; --rule: #e1e1dc;
  --a: #1f66c1; --b: #c2570c; --c: #0b7d73; --mark: #ffe28a; --mark-ink: #1c1d1f; --bar: #b7cdea;
  --good: #1b7a3d; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --card: #1e2125; --ink: #e7e8ea; --soft: #a0a5ad; --rule: #34383e;
    --a: #6fa8f5; --b: #f0964a; --c: #4fc3b5; --mark: #6d5710; --mark-ink: #fff6d8; --bar: #40597a;
    --good: #6fd08c; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.2rem; margin: 44px 0 12px; }
h3 { font-size: 1.05rem; margin: 0 0 6px; }
p { margin: 0 0 10px; }
.soft, .note { color: var(--soft); font-size: .875rem; }
.lede { max-width: 70ch; margin-top: 14px; font-size: 1.05rem; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85em; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; margin: 10px 0 0; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
.pair .note { margin-top: 8px; }
th { font-weight: 600; color: var(--soft); font-size: .82rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tr.group th { color: var(--ink); padding-top: 18px; font-size: .94rem; }
td.none { color: var(--soft); }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 8px 48px; align-items: start; }
.pair td { white-space: normal; }
.time td:last-child { width: 45%; padding-left: 14px; }
.time i { display: block; height: 9px; border-radius: 2px; background: var(--a); min-width: 1px; }

.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; }
figure { margin: 0; padding: 14px 16px 6px; }
figure, .card, .plots > *, .pair > * { min-width: 0; }
figure { display: flex; flex-direction: column; }
figure svg { display: block; width: 100%; height: auto; margin-top: auto; padding-top: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 16px; align-items: baseline; }
figcaption b { margin-right: auto; }
figure .note { margin: 0; }
.key { font-size: .8rem; color: var(--soft); white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 20px; margin-right: 6px; vertical-align: middle;
  border-top: 2.5px solid var(--a); }
.key.b::before { border-top: 2.5px dashed var(--b); }
.key.c::before { border-top: 2.5px dotted var(--c); }
.key.ref::before { border-top: 2px dotted var(--soft); }
.key.mark::before { width: 0; height: 10px; border: 0; border-left: 2px solid var(--ink); }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg path { fill: none; }
.grid { stroke: var(--rule); }
.zero { stroke: var(--soft); }
.ref { stroke: var(--soft); stroke-dasharray: 2 4; stroke-width: 1.5; }
svg .mark { stroke: var(--ink); stroke-width: 1.5; background: none; }
.line, .raw { stroke-linejoin: round; stroke-width: 2; }
.raw { opacity: .28; stroke-width: 1; }
path.a { stroke: var(--a); }
path.b { stroke: var(--b); }
path.c { stroke: var(--c); }
path.line.b { stroke-dasharray: 7 4; }
path.line.c { stroke-dasharray: 2 4; }
circle.a { fill: var(--a); }
circle.b { fill: var(--b); }
circle.c { fill: var(--c); }

figure, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
.card { padding: 16px 18px; margin-bottom: 16px; }
.right { color: var(--good); } .wrong { color: var(--bad); }
.answer { font-size: 1.15rem; font-weight: 600; color: var(--a); }
.passage { max-width: 78ch; margin: 2px 0 16px; white-space: pre-line; }
mark { background: var(--mark); color: var(--mark-ink); border-radius: 3px; padding: 1px 3px; }
.source { font-weight: 600; margin: 10px 0 0; }
.bars { list-style: none; margin: 6px 0 0; padding: 0; font-size: .9rem; }
.bars li { display: grid; grid-template-columns: minmax(0, 17em) 4.2em 1fr; gap: 12px; padding: 2px 0; }
.bars li { align-items: center; }
.bars span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars b { text-align: right; font-weight: 400; font-variant-numeric: tabular-nums; }
.bars i { display: block; height: 11px; background: var(--bar); border-radius: 2px; min-width: 1px; }
.bars .used { font-weight: 600; }
.bars .used i { background: var(--a); }
details { margin-top: 12px; }
summary { cursor: pointer; }

@media (max-width: 700px) {
  main { padding: 20px 14px 48px; }
  .plots, .pair { grid-template-columns: minmax(0, 1fr); }
  th, td { padding: 6px 5px; }
  .pair td:first-child { white-space: normal; }
  .scroll table { font-size: .8rem; }
  .scroll th, .scroll td { padding: 6px 3px; }
  .scroll th { white-space: normal; font-size: .7rem; }
  .scroll tr.group th { font-size: .88rem; }
  svg text { font-size: 17px; }
  figure { padding: 12px 10px 4px; }
  .bars li { grid-template-columns: minmax(0, 1fr) 4em minmax(48px, 25%); gap: 8px; }
}
@media print { .card, figure { break-inside: avoid; } }
"""
