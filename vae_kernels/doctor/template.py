"""The page of a report: jinja2, and a style for light and dark, wide and narrow."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f5f6f8; --ink: #1c2024; --faint: #5b636c; --line: #d8dce1;
  --healthy: #1a7f4b; --watch: #946200; --ill: #c0322b; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --card: #1f242a; --ink: #e6e9ec; --faint: #a3acb5; --line: #39414a;
    --healthy: #55c38a; --watch: #e0b04c; --ill: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .4rem 0; }
.faint, figcaption { color: var(--faint); }
.cards, .figures { display: grid; gap: 1rem; align-items: start; }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
article, figure { margin: 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
article { border-left: .35rem solid var(--level); }
article header { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 .75rem; }
.level { color: var(--level); font-weight: 700; }
.healthy { --level: var(--healthy); } .watch { --level: var(--watch); } .ill { --level: var(--ill); }
dl { margin: .6rem 0 0; } dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: .5rem auto; }
figure svg text { fill: currentColor; }
figcaption { font-size: .9rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td:nth-child(2) { font-variant-numeric: tabular-nums; }
@media (max-width: 36rem) { tr { display: grid; grid-template-columns: 1fr 1fr; border-bottom: 1px solid var(--line);
  padding: .3rem 0; } th, td { border: 0; padding: 0 .5rem 0 0; } td:last-child { grid-column: 1 / -1; }
  figure { padding: .75rem .5rem; } figcaption { padding: 0 .25rem; } }
"""

TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}: {{ level }}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<header class="{{ level }}">
<h1>{{ title }}: <span class="level">{{ level }}</span></h1>
<p class="faint">{{ summary }}</p>
</header>
<main>
<section aria-labelledby="symptoms">
<h2 id="symptoms">Symptoms</h2>
<div class="cards">
{% for v in verdicts %}
<article class="{{ v.level }}">
<header><h3>{{ v.symptom }}</h3><span class="level">{{ v.level }}</span></header>
<p>{{ v.evidence | plain }}</p>
{% if v.cause %}
<dl><dt>Likely cause</dt><dd>{{ v.cause }}</dd><dt>Try</dt><dd>{{ v.advice }}</dd></dl>
{% endif %}
</article>
{% endfor %}
</div>
</section>
<section aria-labelledby="figures">
<h2 id="figures">Figures</h2>
{% if missing %}
<p>{{ missing }}</p>
{% endif %}
<div class="figures">
{% for f in figures %}
<figure><h3>{{ f.name }}</h3>
{{ f.svg | safe }}
<figcaption>{{ f.caption | plain }}</figcaption></figure>
{% endfor %}
</div>
</section>
<section aria-labelledby="numbers">
<h2 id="numbers">Numbers</h2>
<table>
{% for name, value, what in numbers %}
<tr><th scope="row">{{ name }}</th><td>{{ value | plain }}</td><td class="faint">{{ what }}</td></tr>
{% endfor %}
</table>
</section>
</main>
</body>
</html>
"""
)
