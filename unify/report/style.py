"""The page's style sheet: one column of text, hairlines, light and dark from one set of names."""

ARMS_LIGHT = [
    "#1d5fc2",
    "#c4540a",
    "#137a55",
    "#9c3587",
    "#8a6a00",
    "#6b4fc9",
    "#0a7183",
    "#5b6068",
]
ARMS_DARK = ["#7fb2ff", "#ffa45c", "#5fd3a5", "#f090d0", "#e3c04c", "#b7a4ff", "#62cfdf", "#aab0b8"]
DASHES = ["none", "7 3", "2 2.5", "9 3 2 3", "13 3", "4 4", "9 2 2 2 2 2", "1 4"]


def _names(colours: list[str]) -> str:
    return "".join(f"--arm-{i}:{c};" for i, c in enumerate(colours))


LIGHT = (
    "--page:#fbfbf9;--card:#fff;--ink:#191b1f;--soft:#5d6169;--rule:#e3e3de;--faint:#f3f3ef;"
    "--right:#1a7340;--wrong:#b3261e;--warn:#8a5a00;--warn-back:#fdf3dc;--done-back:#e6f3ea;"
    + _names(ARMS_LIGHT)
)
DARK = (
    "--page:#121417;--card:#191c20;--ink:#e7e7e3;--soft:#9ba1a9;--rule:#2c3137;--faint:#1f2328;"
    "--right:#6fd39a;--wrong:#ff8f86;--warn:#f0c36b;--warn-back:#33290f;--done-back:#15301f;"
    + _names(ARMS_DARK)
)

CSS = (
    f":root{{{LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}\n"
    + "".join(
        f".arm-{i}{{--c:var(--arm-{i})}}.line.arm-{i}{{stroke-dasharray:{dash}}}\n"
        for i, dash in enumerate(DASHES)
    )
    + """
*{box-sizing:border-box}
html{color-scheme:light dark;scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",
  Arial,sans-serif}
header,main,footer{max-width:1180px;margin:0 auto;padding:0 28px}
header{padding-top:56px}
h1,h2,h3,h4{line-height:1.2;margin:0;text-wrap:balance}
h1,h2{font-family:Charter,"Iowan Old Style",Georgia,"Liberation Serif",serif;font-weight:600}
h1{font-size:clamp(1.9rem,4.2vw,2.9rem);letter-spacing:-.015em;max-width:22em}
h2{font-size:1.6rem;margin-bottom:18px}
h3{font-size:1.02rem;margin:30px 0 10px}
h4{font-size:.92rem;margin:18px 0 8px}
p{margin:0 0 12px;max-width:46em}
code,pre{font:.86em/1.55 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
code{overflow-wrap:anywhere}
pre{background:var(--faint);border-radius:8px;padding:14px 16px;overflow-x:auto;margin:10px 0}
a{color:inherit}
.quiet,.interval,.kicker,.meta{color:var(--soft)}
.quiet{font-size:.9rem}
.kicker{font-size:.8rem;letter-spacing:.06em;margin-bottom:12px}
.question{font:1.25rem/1.5 Charter,"Iowan Old Style",Georgia,"Liberation Serif",serif;
  margin:16px 0 0;max-width:38em}
.meta{display:flex;flex-wrap:wrap;gap:6px 20px;margin:18px 0 0;font-size:.92rem;max-width:none}
.arm-name{color:var(--ink);white-space:nowrap}
.summary{margin:22px 0 0;padding-left:16px;border-left:3px solid var(--rule);max-width:52em}
nav{position:sticky;top:0;z-index:2;display:flex;gap:22px;overflow-x:auto;scrollbar-width:none;
  width:min(1124px,100% - 56px);margin:34px auto 0;padding:11px 0;background:var(--page);
  font-size:.86rem;border-bottom:1px solid var(--rule)}
nav a{color:var(--soft);text-decoration:none;white-space:nowrap}
nav a:hover{color:var(--ink)}
main>section{padding:40px 0 6px;scroll-margin-top:34px}
main>section+section{border-top:1px solid var(--rule);margin-top:36px}
footer{color:var(--soft);font-size:.82rem;padding-top:44px;padding-bottom:44px}
.swatch{vertical-align:middle;margin-right:7px;overflow:visible}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.raw{fill:none;stroke:var(--c);stroke-width:1;opacity:.22;stroke-linejoin:round}
.whisker{stroke:var(--c);stroke-width:2;stroke-linecap:round;opacity:.55}
.dot{fill:var(--c)}
.rule{stroke:var(--rule)}
.axis{stroke:var(--soft);opacity:.6}
.tick{fill:var(--soft);font-size:10.5px;font-variant-numeric:tabular-nums}
.end{text-anchor:end}.middle{text-anchor:middle}
.badge{display:inline-block;font-size:.74rem;line-height:1.5;padding:1px 8px;border-radius:99px;
  background:var(--faint);color:var(--soft);font-weight:500;white-space:nowrap}
.badge.done{background:var(--done-back);color:var(--right)}
.badge.open{background:var(--warn-back);color:var(--warn)}
.badge.primary{background:none;border:1px solid var(--rule);margin-left:8px}
.note{font-size:.85rem;color:var(--warn);background:var(--warn-back);padding:7px 11px;
  border-radius:7px;
  margin:7px 0;font-weight:400;max-width:46em;overflow-wrap:anywhere}

.headlines{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:16px;
  margin-top:28px}
.headline,article{background:var(--card);border:1px solid var(--rule);border-radius:12px;
  padding:18px 20px}
.headline>p{font-size:.9rem;color:var(--soft);margin-bottom:12px;overflow-wrap:anywhere}
.figures{display:flex;flex-wrap:wrap;gap:14px 34px;margin-bottom:14px}
.figures>div{display:flex;flex-direction:column}
.figure{font-size:2rem;line-height:1.15;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figures .interval{font-size:.8rem;font-variant-numeric:tabular-nums}
.figures .arm-name{font-size:.88rem}
.headline>svg{width:100%;height:auto;max-width:520px}
.arms{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:16px}
article h3{margin:0}
.paradigm{color:var(--soft);font-size:.9rem;margin:2px 0 10px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:7px 18px;margin:14px 0 0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.unmatched{margin:0;padding-left:20px;max-width:56em}
.unmatched li{margin-bottom:5px;overflow-wrap:anywhere}

.scroll{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 22px 7px 0;vertical-align:top;border-bottom:1px solid var(--rule)}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:.82rem;font-weight:600;color:var(--soft);white-space:nowrap;
  vertical-align:bottom}
tbody th{font-weight:400}
.facts td{overflow-wrap:anywhere}
.facts tbody th{white-space:nowrap;color:var(--soft)}
.settings tbody th{white-space:normal;overflow-wrap:anywhere;min-width:150px}
.numbers{font-size:.84rem}.numbers td,.numbers th{padding-top:3px;padding-bottom:3px}
.numbers td:nth-child(n+2){white-space:nowrap}
.shares{list-style:none;padding:0;margin:0 0 10px;font-size:.82rem}
.shares li{display:grid;grid-template-columns:7em 1fr 8.5em;gap:8px;align-items:center}
.share{display:flex;height:9px;background:var(--faint);border-radius:3px;overflow:hidden}
.share .solid{background:var(--soft)}.share .faint{background:var(--rule)}
.masks{display:flex;flex-wrap:wrap;gap:12px;margin-bottom:8px}
.masks figure{width:132px;font-size:.74rem;line-height:1.3;color:var(--soft)}
.masks img{image-rendering:pixelated;border-radius:4px;display:block;margin-bottom:3px}
.plots{display:flex;flex-wrap:wrap;gap:16px}.plots img{max-width:100%;height:auto;background:#fff;
  border-radius:8px}
.claims{font-size:.88rem}.claims .claim{min-width:18em}.claims .quiet{font-size:inherit}
.claims td:nth-child(3){white-space:nowrap}
.differences th,.differences td{padding-right:14px}
.differences .quiet{font-size:inherit}
.differences td:nth-child(4){white-space:normal;min-width:9em}
.budget{min-width:620px}.budget td{overflow-wrap:normal;min-width:5.2em}
.results .why td{border-bottom:0;padding-bottom:0}
.results{width:100%}
.results .num{white-space:nowrap}
.results.many .num{white-space:normal}
.results.many .dot{display:block;height:0;overflow:hidden}
.results.many th,.results.many td{padding-right:14px}
.results .task th{font-weight:600;padding-top:26px;font-size:1rem;border-bottom-color:var(--soft)}
.results tbody th{max-width:30em}
.results .category th{padding-left:18px}
.results .reference th{padding-left:36px}
.results .reference th,.results .reference .value{color:var(--soft)}
.results .main .value{font-weight:600}
.value{font-size:1rem}
.num .interval{display:block;font-size:.76rem;line-height:1.35}
.forest{width:168px;padding-right:0}
td.forest{vertical-align:middle}
svg.intervals{display:block}
.scale{display:flex;justify-content:space-between;padding-left:3px}
.results .reference th,.results .reference td{padding-top:3px;padding-bottom:3px;font-size:.86rem}
.results .reference .interval{display:inline;margin-left:8px}
.results .reference .value{font-size:.86rem}

.key{list-style:none;display:flex;flex-wrap:wrap;gap:4px 24px;padding:0;margin:0 0 14px;
  font-size:.9rem}
.choices{border:0;padding:0;margin:0 0 8px;display:flex;flex-wrap:wrap;gap:4px 16px;
  font-size:.86rem}
.choices legend{float:left;width:5.2em;color:var(--soft)}.choices label{white-space:nowrap}
.cards{display:grid;gap:16px;margin-bottom:12px}
.of-1{grid-template-columns:repeat(auto-fill,minmax(116px,1fr))}
.of-2{grid-template-columns:repeat(auto-fill,minmax(206px,1fr))}
.of-3{grid-template-columns:repeat(auto-fill,minmax(300px,1fr))}
.of-4{grid-template-columns:repeat(auto-fill,minmax(320px,1fr))}
.of-5{grid-template-columns:repeat(auto-fill,minmax(min(400px,100%),1fr))}
.of-6{grid-template-columns:repeat(auto-fill,minmax(min(480px,100%),1fr))}
.of-many{grid-template-columns:repeat(auto-fill,minmax(min(500px,100%),1fr))}
.of-many .shots{grid-template-columns:repeat(auto-fit,minmax(54px,1fr))}
.of-many .word{display:none}
figure{margin:0;min-width:0}
.card{display:flex;flex-direction:column}
.shots{display:grid;grid-template-columns:repeat(auto-fit,minmax(72px,1fr));gap:6px}
.shot img{display:block;width:100%;border-radius:6px;image-rendering:pixelated;
  background:var(--faint)}
.said{display:flex;justify-content:space-between;align-items:center;font-size:.76rem;
  margin:4px 0 0;min-height:18px}
.card figcaption{font-size:.84rem;line-height:1.35;margin-top:3px;overflow-wrap:anywhere}
.verdict{white-space:nowrap}
.verdict.right{color:var(--right)}.verdict.wrong{color:var(--wrong)}.verdict.open{color:var(--soft)}
.sheet{max-width:100%;image-rendering:pixelated;border-radius:6px}
.moment p{margin:8px 0 4px}

.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));
  gap:24px 28px;margin:8px 0 12px}
.panels.small{grid-template-columns:repeat(auto-fill,minmax(min(250px,100%),1fr))}
.panels figcaption{display:flex;justify-content:space-between;gap:12px;font-size:.88rem;
  margin-bottom:2px;flex-wrap:wrap}
.last{display:flex;gap:14px;color:var(--soft);font-variant-numeric:tabular-nums}
.plot{display:block;width:100%;height:auto;overflow:visible}
details{margin:12px 0}
summary{cursor:pointer;color:var(--soft);font-size:.92rem;padding:4px 0}
summary:hover{color:var(--ink)}
details[open]>summary{color:var(--ink);margin-bottom:8px}

@media (max-width:640px){
  body{font-size:15px}
  header,main,footer{padding-left:16px;padding-right:16px}
  nav{width:calc(100% - 32px)}
  header{padding-top:30px}
  .forest{display:none}
  .budget{min-width:0}
  .results tbody th[scope=row]{position:sticky;left:0;background:var(--page)}
  .facts tbody th{white-space:normal}
  th,td{padding-right:14px}
  .results .category th{padding-left:10px}
  .results .reference th{padding-left:20px}
  dl{grid-template-columns:1fr;gap:1px}
  dd{margin-bottom:8px}
  .arms{grid-template-columns:1fr}
}
@media print{nav{display:none}body{background:#fff}details>summary{display:none}}
"""
)
