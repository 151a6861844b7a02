"""The look of the page: one style sheet, light or dark as the reader's system is, and plain when printed."""

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #ffffff; --panel: #f6f7f9; --ink: #1c2129; --quiet: #5b6573; --rule: #dde1e7; --fill: #bcd4f5;
  --error: #b42318; --warning: #8a5a00; --note: #1f5fbf; --good: #1a7f4b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171c; --panel: #1c2027; --ink: #e6e9ee; --quiet: #9aa4b2; --rule: #303742; --fill: #2b4a73;
    --error: #ff8a7a; --warning: #f0bd5b; --note: #8ab8ff; --good: #6fd69f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1 { font-size: 1.35rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: .95rem; margin: 1.75rem 0 .5rem; }
p { margin: .35rem 0; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.quiet, dt, th, footer { color: var(--quiet); }
section { margin-top: 1.5rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); }
header.source { display: flex; flex-wrap: wrap; gap: .35rem .75rem; align-items: baseline; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .9rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
.badge {
  display: inline-block; padding: 0 .5em; border: 1px solid currentColor; border-radius: .35em; font-size: .85em;
  font-weight: 600; white-space: nowrap;
}
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
.good { color: var(--good); }
article {
  margin: .6rem 0; padding: .6rem .9rem; background: var(--panel); border-left: 3px solid var(--rule);
  border-radius: .2rem; overflow-wrap: anywhere;
}
article.error { border-left-color: var(--error); } article.warning { border-left-color: var(--warning); }
article.note { border-left-color: var(--note); }
article > * { color: var(--ink); } article .badge { color: inherit; } article .quiet { color: var(--quiet); }
article.error .badge { color: var(--error); } article.warning .badge { color: var(--warning); }
article.note .badge { color: var(--note); }
a { color: inherit; text-decoration-color: var(--rule); text-underline-offset: .2em; }
a:hover { text-decoration-color: currentColor; }
table.overview td:first-child { min-width: 9rem; }
table.overview td:nth-child(2) { white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { font-weight: 500; font-size: .85rem; }
td { font-size: .9rem; }
table.drift td:nth-child(n + 2):nth-child(-n + 5) { min-width: 6.5rem; }
.bar { position: relative; padding: 0 .35rem; white-space: nowrap; }
.bar > span { position: relative; }
.bar > .fill { position: absolute; inset: .1rem auto .1rem 0; background: var(--fill); border-radius: .15rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--quiet); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
ul { margin: .35rem 0; padding-left: 1.25rem; }
footer { margin-top: 2.5rem; font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; }
  article, tr { break-inside: avoid; }
}
"""
