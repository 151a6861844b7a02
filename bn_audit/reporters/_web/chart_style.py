"""The look of charts: blue within the noise, orange beyond it, which most colour-blind readers tell apart."""

CHART_STYLE = """\
:root {
  --grid: #e6e9ee; --band: #e3ebf6; --floor: #7f9cc6; --calm: #2f6db5; --moved: #c2500a; --link: #9aa4b2;
  --noise: #d6e0ef; --level1: #fbdcae; --level2: #f5ae60; --level3: #e07a1f; --level4: #b84c08; --level5: #7a2e05;
}
@media (prefers-color-scheme: dark) {
  :root {
    --grid: #2a3039; --band: #202c3d; --floor: #5c82b8; --calm: #79b0f2; --moved: #ff9d52; --link: #6a7585;
    --noise: #2b3b52; --level1: #57391b; --level2: #8a521c; --level3: #bf701f; --level4: #ee9638; --level5: #ffcf8f;
  }
}
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem; }
.charts > * { min-width: 0; }
figure { margin: 1.25rem 0 .5rem; }
figcaption { line-height: 1.35; overflow-wrap: anywhere; }
.plot { padding: 1.25rem .5rem 2.75rem 2.75rem; }
.layers .plot { padding-bottom: .75rem; }
svg.chart { display: block; overflow: visible; }
svg.mark { overflow: visible; }
.tick { font-size: 12px; fill: var(--quiet); }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--grid); } .axis { stroke: var(--link); } .link { stroke: var(--link); stroke-width: 1.5; }
.band { fill: var(--band); } .floor { stroke: var(--floor); stroke-dasharray: 4 3; }
.area { fill: transparent; }
.hit { outline: none; }
.hit:hover .area, .hit:focus .area { fill: var(--fill); fill-opacity: .35; }
.hit:hover .cell, .hit:focus .cell { stroke: var(--ink); stroke-width: 2; }
.mark.below { fill: var(--calm); } .mark.above { fill: var(--moved); }
.mark.reference { fill: var(--ground); stroke: var(--calm); stroke-width: 1.5; }
.mark.failed { stroke: var(--error); stroke-width: 2.5; fill: none; }
rect.bar { fill: var(--moved); }
.first { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 2 3; }
.lane { fill: var(--link); } .lane.train { fill: var(--error); } .lane.eval { fill: var(--calm); }
.cell { stroke: var(--ground); stroke-width: 1; }
.cell.same { fill: var(--panel); stroke: var(--rule); } .cell.noise { fill: var(--noise); }
.cell.level1 { fill: var(--level1); } .cell.level2 { fill: var(--level2); } .cell.level3 { fill: var(--level3); }
.cell.level4 { fill: var(--level4); } .cell.level5 { fill: var(--level5); }
.in { font-size: 11px; fill: var(--ink); pointer-events: none; }
.in.level3, .in.level4, .in.level5 { fill: var(--ground); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1rem; font-size: .85rem; margin-top: 0; }
.key { white-space: nowrap; } .key svg { vertical-align: -2px; }
.verdict { font-size: 1.05rem; }
.command {
  padding: .6rem .9rem; background: var(--panel); border-radius: .2rem; user-select: all; overflow-x: auto;
  white-space: pre;
}
.sizes td:not(:nth-child(2)), .norms td:not(:first-child), .figures td { white-space: nowrap; }
.figures td { padding-right: .9rem; }
.sizes td:nth-child(2), .norms td:first-child, .profile td:nth-child(2) { min-width: 9rem; }
@media (max-width: 34rem) {
  body { padding: 1.25rem 1rem 3rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
}
.tip {
  position: fixed; z-index: 1; max-width: min(26rem, calc(100vw - 8px)); padding: .25rem .6rem; border-radius: .3rem;
  background: var(--ink); color: var(--ground); font-size: .85rem; overflow-wrap: anywhere; pointer-events: none;
}
"""
