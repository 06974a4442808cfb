// The one stylesheet of the landing page and the reading view: light and dark, phone to wide screen, no font or picture loaded.

export const siteCss = `
:root {
  color-scheme: light dark;
  --paper: #fbf9f6; --raised: #ffffff; --sunk: #f3efe9; --line: #e4ddd3;
  --ink: #1f1a16; --soft: #6a6058; --accent: #b8400a; --glow: #e8590c; --spark: #ffc078;
  --get: #0b6e63; --post: #a83c0a; --put: #6b3fb0; --delete: #b3242f; --good: #1a7f37; --bad: #b3242f;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Code", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  --round: 10px;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14110f; --raised: #1c1815; --sunk: #221d19; --line: #352d27;
    --ink: #efe8e0; --soft: #aa9d91; --accent: #ff9a5c; --glow: #ff7a30; --spark: #ffd8a8;
    --get: #5fd0bf; --post: #ff9a5c; --put: #bda2f5; --delete: #ff8a8a; --good: #6fd38a; --bad: #ff8a8a;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1.5rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 var(--sans); }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
:focus-visible { outline: 2px solid var(--glow); outline-offset: 2px; border-radius: 4px; }
h1, h2, h3, h4, p, dl, dd, ul, figure, pre { margin: 0; padding: 0; }
ul { list-style: none; }
code, pre, kbd { font-family: var(--mono); font-size: .875em; }
pre { overflow-x: auto; background: var(--sunk); border: 1px solid var(--line); border-radius: var(--round); padding: 1rem 1.1rem; line-height: 1.55; tab-size: 2; }
pre code { font-size: .8125rem; }
.all { user-select: all; -webkit-user-select: all; }
small { font-size: .55em; font-weight: 500; color: var(--soft); letter-spacing: 0; vertical-align: middle; }
.quiet, .note { color: var(--soft); }
.flame { width: 1.25em; height: 1.25em; vertical-align: -.22em; margin-right: .45em; flex: none; }
.flame .outer { fill: var(--glow); }
.flame .inner { fill: var(--spark); }
.brand { font-weight: 700; color: var(--ink); text-decoration: none; letter-spacing: -.01em; white-space: nowrap; }
.brand small { font-size: .75rem; margin-left: .3rem; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; z-index: 9; background: var(--raised); padding: .5rem 1rem; }

/* landing */
.landing { display: flex; flex-direction: column; min-height: 100vh; background: radial-gradient(60rem 26rem at 78% -8rem, color-mix(in srgb, var(--glow) 14%, transparent), transparent 70%) no-repeat var(--paper); }
.landing > * { width: 100%; max-width: 68rem; margin-inline: auto; padding-inline: clamp(1.1rem, 4vw, 2.5rem); }
.landing .bar { display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; justify-content: space-between; align-items: center; padding-block: 1.4rem; }
.landing .bar nav { display: flex; gap: 1.4rem; font-size: .9375rem; }
.landing .bar nav a { color: var(--soft); text-decoration: none; }
.landing .bar nav a:hover { color: var(--accent); }
.landing main { flex: 1; }
.hero { padding-block: clamp(1.5rem, 6vw, 4.5rem) 3rem; }
.hero h1 { font-size: clamp(2.1rem, 5.6vw, 3.6rem); line-height: 1.08; letter-spacing: -.03em; font-weight: 750; max-width: 19ch; text-wrap: balance; }
.lead { margin-top: 1.3rem; font-size: clamp(1.05rem, 2vw, 1.2rem); color: var(--soft); max-width: 62ch; text-wrap: pretty; }
.running { display: inline-flex; flex-wrap: wrap; align-items: center; gap: .45rem; margin-bottom: 1.4rem; font-size: .875rem; }
.dot { width: .55rem; height: .55rem; border-radius: 50%; background: var(--good); box-shadow: 0 0 0 4px color-mix(in srgb, var(--good) 18%, transparent); margin-right: .2rem; flex: none; }
.down .dot { background: var(--bad); box-shadow: 0 0 0 4px color-mix(in srgb, var(--bad) 18%, transparent); }
.address { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15.5rem, 100%), 1fr)); gap: 1px; margin-top: 2.2rem; background: var(--line); border: 1px solid var(--line); border-radius: var(--round); overflow: hidden; }
.address > div { background: var(--raised); padding: .9rem 1.1rem; min-width: 0; }
.address dt { font-size: .8125rem; color: var(--soft); }
.address dd { margin-top: .1rem; overflow-wrap: anywhere; }
.runtimes { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: 1.1rem; font-size: .875rem; }
.runtimes li { display: inline-flex; align-items: center; gap: .4rem; padding: .3rem .8rem .3rem .7rem; background: var(--raised); border: 1px solid var(--line); border-radius: 99px; }
.examples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.4rem; }
.examples figure { min-width: 0; display: flex; flex-direction: column; }
.examples figure:first-child { grid-column: 1 / -1; }
.examples figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .875rem; font-weight: 600; padding: 0 .2rem .45rem; }
.examples figcaption .quiet { font-weight: 400; font-size: .8125rem; }
.examples pre { flex: 1; background: var(--raised); }
.doors { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr)); gap: 1rem; padding-block: 3rem 4rem; }
.door { display: flex; flex-direction: column; gap: .15rem; padding: 1.1rem 1.2rem; border: 1px solid var(--line); border-radius: var(--round); background: var(--raised); color: var(--ink); text-decoration: none; transition: border-color .15s; }
.door:hover { border-color: var(--glow); }
.door code { color: var(--accent); }
.door span { color: var(--soft); font-size: .9375rem; margin-top: .35rem; line-height: 1.5; }
.landing footer { padding-block: 1.4rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem; }

/* reading view */
.reading { display: grid; grid-template-columns: 18.5rem minmax(0, 1fr); grid-template-rows: auto 1fr; }
.reading .bar { display: none; }
.reading > .intro, .reading > main { grid-column: 2; min-width: 0; max-width: 92rem; padding-inline: clamp(1.1rem, 4vw, 3.4rem); }
.index { grid-area: 1 / 1 / 3 / 2; position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.6rem 1.1rem 2.5rem 1.4rem; border-right: 1px solid var(--line); background: var(--raised); font-size: .9063rem; scrollbar-width: thin; }
.index h2 { margin: 1.6rem .5rem .35rem; font-size: .8125rem; font-weight: 600; }
.index h2 a { color: var(--soft); text-decoration: none; }
.index li a { display: flex; gap: .55rem; align-items: baseline; padding: .28rem .5rem; border-radius: 6px; color: var(--ink); text-decoration: none; line-height: 1.4; }
.index li a:hover { background: var(--sunk); }
.index .deprecated { text-decoration: line-through; }
.index .method { flex: none; min-width: 2.9rem; padding: 0; border: 0; background: none; font-size: .6563rem; }
.elsewhere { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-top: 2rem; padding: 1rem .5rem 0; border-top: 1px solid var(--line); font-size: .8438rem; }
.reading > main { padding-bottom: 6rem; }
.reading > .intro { padding-top: clamp(1.4rem, 4vw, 3rem); padding-bottom: 1rem; }
.intro h1 { font-size: clamp(1.8rem, 4vw, 2.5rem); line-height: 1.15; letter-spacing: -.025em; }
.intro p { margin-top: .8rem; max-width: 68ch; font-size: 1.0625rem; color: var(--soft); }
.intro .base { font-size: .9375rem; }
.base code { margin-left: .5rem; padding: .2rem .55rem; background: var(--sunk); border-radius: 6px; color: var(--ink); }
.group > h2 { margin-top: 2.8rem; font-size: 1.5rem; letter-spacing: -.02em; }
.operation { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.4rem 2.6rem; padding-block: 2rem; border-bottom: 1px solid var(--line); }
.operation:last-child { border-bottom: 0; }
.operation h3 { font-size: 1.2rem; letter-spacing: -.012em; line-height: 1.35; }
.operation h3 a { color: inherit; text-decoration: none; }
.operation h3 a:hover { color: var(--accent); }
.operation:target h3 a { color: var(--accent); }
.operation .head > p { max-width: 68ch; margin-top: .6rem; }
.operation .route { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .6rem; }
.route code { overflow-wrap: anywhere; }
.route var { font-style: normal; color: var(--accent); }
.method { display: inline-block; font: 700 .7188rem/1.5 var(--mono); letter-spacing: .02em; padding: .1rem .45rem; border-radius: 5px; color: var(--soft); background: color-mix(in srgb, currentColor 11%, transparent); }
.method.get { color: var(--get); }
.method.post { color: var(--post); }
.method.put, .method.patch { color: var(--put); }
.method.delete { color: var(--delete); }
.operation h4 { margin: 1.6rem 0 .2rem; font-size: .9375rem; }
.operation h4 .note { font-weight: 400; }
.note { font-size: .8438rem; }
.fields { border-left: 2px solid var(--line); padding-left: 1rem; margin-top: .5rem; }
.fields dt { margin-top: .95rem; line-height: 1.45; overflow-wrap: anywhere; }
.fields dt:first-child { margin-top: .2rem; }
.name { font-weight: 650; font-size: .9063rem; }
.type { color: var(--soft); font-size: .8438rem; margin-left: .3rem; }
p.type { margin: .4rem 0 0; }
.required, .deprecated { font-style: normal; font-size: .8125rem; }
.required { color: var(--accent); margin-left: .35rem; }
.operation .text > h4:first-child { margin-top: 0; }
em.deprecated { color: var(--bad); margin-left: .35rem; }
.fields dd > p { max-width: 66ch; font-size: .9375rem; line-height: 1.5; }
.limits { display: flex; flex-wrap: wrap; gap: .15rem .9rem; color: var(--soft); }
.fields dd > .limits { font-size: .8438rem; margin-top: .15rem; }
.limits .value { background: var(--sunk); border-radius: 5px; padding: .05rem .4rem; color: var(--ink); }
.limits span code { color: var(--ink); overflow-wrap: anywhere; }
details > summary { cursor: pointer; width: fit-content; }
.fields details { margin-top: .35rem; }
.fields summary { color: var(--accent); font-size: .8438rem; }
.variant { margin-top: .7rem; }
.variant-name { font-size: .875rem; color: var(--soft); }
.variant-name code { color: var(--ink); }
.answer { margin-top: .45rem; font-size: .9375rem; }
.answer summary { max-width: 100%; }
.status { font: 700 .8125rem/1 var(--mono); margin-right: .35rem; }
.status.good { color: var(--good); }
.status.bad { color: var(--bad); }
.media { margin-top: .8rem; font-size: .875rem; color: var(--soft); }
.code-title { font-size: .8125rem; color: var(--soft); padding: 0 .2rem .35rem; }
.code { min-width: 0; }
.code pre + .code-title { margin-top: 1.1rem; }
.code pre { max-height: 26rem; overflow: auto; }
@media (min-width: 78rem) {
  .operation { grid-template-columns: minmax(0, 1fr) minmax(22rem, 30rem); grid-template-rows: auto 1fr; }
  .operation .head, .operation .text { grid-column: 1; }
  .operation .code { grid-area: 1 / 2 / 3 / 3; position: sticky; top: 1.5rem; align-self: start; }
}
@media (max-width: 60rem) {
  html { scroll-padding-top: 4.4rem; }
  .reading { display: block; }
  .reading .bar { display: flex; position: sticky; top: 0; z-index: 2; justify-content: space-between; align-items: center; padding: .7rem 1.1rem; background: var(--raised); border-bottom: 1px solid var(--line); }
  .button { padding: .35rem .9rem; border: 1px solid var(--line); border-radius: 99px; font-size: .9063rem; color: var(--ink); text-decoration: none; }
  .index { position: static; height: auto; margin: .5rem clamp(1.1rem, 4vw, 3.4rem) 0; padding: .2rem .6rem 1rem; border: 1px solid var(--line); border-radius: var(--round); }
  .index > .brand { display: none; }
  .index li a { padding-block: .45rem; }
  .elsewhere { margin-top: 1rem; }
  .code pre { max-height: 18rem; }
}
@media (max-width: 30rem) {
  .landing .bar nav { gap: 1.1rem; }
  .examples figcaption .quiet { display: none; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } .door { transition: none; } }
@media print { .index, .reading .bar { display: none; } .reading { display: block; } }
`;
