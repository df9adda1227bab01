"""The page around the parts of a report: one HTML file with its style and its script inside, nothing fetched."""

from __future__ import annotations

from html import escape

from nasfast.report import sections
from nasfast.report.alphas import ALPHA_CSS
from nasfast.report.cells import CELL_CSS
from nasfast.report.curves import CHART_CSS, READOUT_SCRIPT
from nasfast.report.palette import colour_rules, primitive_classes
from nasfast.report.run_data import RunData, flatten
from nasfast.report.scatter import SCATTER_CSS
from nasfast.report.trials import TRIALS_CSS

_LIGHT = (
    "--paper:#faf8f4;--card:#fff;--ink:#1f1d1a;--soft:#67625a;--rule:#b5afa4;--hair:#e2ddd3;--a:#1f5fae;--b:#b9531a;"
    "--alert:#b3261e;" + colour_rules("light")
)
_DARK = (
    "--paper:#141417;--card:#1d1d22;--ink:#ece8e1;--soft:#a29c92;--rule:#5f5b54;--hair:#323138;--a:#6aa8f5;--b:#f08a4b;"
    "--alert:#ff8a80;" + colour_rules("dark")
)

_PAGE_CSS = """
:root{color-scheme:light dark;%(light)s;
--serif:'Iowan Old Style','Palatino Linotype',Palatino,'Book Antiqua',Georgia,'DejaVu Serif',serif;
--sans:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;
--mono:ui-monospace,'SFMono-Regular',Menlo,Consolas,'DejaVu Sans Mono',monospace}
@media(prefers-color-scheme:dark){:root{%(dark)s}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 var(--sans)}
main,header,footer{max-width:1320px;margin:0 auto;padding:0 clamp(16px,3.4vw,44px)}
header{padding-top:clamp(24px,5vw,56px)}
.eyebrow{margin:0;font:13px var(--mono);color:var(--soft)}
h1{font:400 clamp(30px,5.2vw,54px)/1.08 var(--serif);margin:6px 0 8px;overflow-wrap:anywhere}
.subtitle{margin:0;color:var(--soft);overflow-wrap:anywhere}
h2{font:400 clamp(24px,2.6vw,32px)/1.2 var(--serif);margin:0 0 6px}
h3{font:600 15px/1.3 var(--sans);margin:18px 0 4px}
section{border-top:1px solid var(--rule);padding:22px 0 8px;margin-top:34px}
.lead{max-width:74ch;margin:0 0 12px;color:var(--soft)}
.figures{display:flex;flex-wrap:wrap;gap:18px 40px;margin:26px 0 0;align-items:baseline}
.figure b{display:block;font:400 clamp(26px,2.6vw,34px)/1.1 var(--serif);white-space:nowrap}
.figure.main b{font-size:clamp(44px,5vw,66px);color:var(--a)}
.figure span{display:block;font-size:14px}
.figure small{display:block;font-size:13px;color:var(--soft)}
.absent{margin:10px 0;padding:10px 14px;border-left:3px solid var(--rule);color:var(--soft);overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%%,440px),1fr));gap:22px 40px}
figure{margin:0;min-width:0}
figcaption{font:600 15px var(--sans);margin-bottom:4px}
.cell{display:block;width:100%%;max-width:620px;height:auto}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 24px;margin:16px 0 0;padding:0;font-size:14px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;background:var(--c);margin-right:7px}
.legend span{color:var(--soft)}
code,pre{font:13px var(--mono);overflow-wrap:anywhere}
pre{white-space:pre-wrap;margin:4px 0;padding:12px 14px;background:var(--card);
border:1px solid var(--hair);border-radius:6px}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%%,440px),1fr));column-gap:40px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%%,380px),1fr));gap:18px 36px}
.grid-block{margin-bottom:26px;max-width:1040px}
.grid-block .caption{margin-bottom:10px}
table{border-collapse:collapse;margin:10px 0;font-size:15px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 22px 6px 0;border-bottom:1px solid var(--hair);vertical-align:top}
td{overflow-wrap:anywhere}
tbody th{font-weight:400;color:var(--soft)}
thead th{font-weight:600}
thead th:empty{padding:0;border:0}
.wide{overflow-x:auto}.wide td{white-space:nowrap}.wide figure{min-width:860px}
.leaders{overflow-x:auto}.leaders th,.leaders td{white-space:nowrap}
.leaders td:last-child{white-space:normal;min-width:36ch}
sub{line-height:0}
.genotypes{margin:0}.genotypes dt{font-weight:600;margin-top:10px}.genotypes dd{margin:2px 0 0}
.facts{columns:3 300px;column-gap:40px;margin:8px 0;font-size:14px}
.facts div{display:grid;grid-template-columns:minmax(min-content,max-content) 1fr;gap:14px;break-inside:avoid;
border-bottom:1px solid var(--hair);padding:3px 0}
.facts dt{color:var(--soft)}
.facts dd{margin:0;text-align:right;font:13px/1.55 var(--mono);overflow-wrap:anywhere;min-width:0}
footer{padding-top:30px;padding-bottom:40px;color:var(--soft);font-size:13px}
@media print{section{break-inside:avoid}}
"""


def _style() -> str:
    return (
        _PAGE_CSS % {"light": _LIGHT, "dark": _DARK}
        + primitive_classes()
        + CELL_CSS
        + CHART_CSS
        + ALPHA_CSS
        + SCATTER_CSS
        + TRIALS_CSS
    )


def _subtitle(data: RunData) -> str:
    facts = dict(flatten(data.config))
    found = []
    for title, names in (("data", ("data", "dataset")), ("strategy", ("strategy", "method")), ("seed", ("seed",))):
        value = next((v for k, v in facts.items() if k.rsplit(".", 1)[-1] in names), None)
        if value is not None:
            found.append(f"{title} {value}")
    return ", ".join(found)


def frame(name: str, version: str, subtitle: str, headline: str, body: str) -> str:
    """A whole page around the parts of a report."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(f'nasfast run {name}')}</title><style>{_style()}</style></head><body>",
        f'<header><p class="eyebrow">nasfast search report</p><h1>{escape(name)}</h1>',
        f'<p class="subtitle">{escape(subtitle)}</p>{headline}</header><main>{body}',
        f"</main><footer>Written by nasfast {escape(version)}. This file needs no network.</footer>",
        f"<script>{READOUT_SCRIPT}</script></body></html>\n",
    ]
    return "".join(parts)


def render(data: RunData) -> str:
    """The whole page of a search for cells."""
    body = [
        sections.cells(data),
        f'<div class="columns">{sections.comparison(data)}{sections.cost(data)}</div>',
        sections.genotypes(data),
        sections.alphas(data),
        sections.curves(data),
        sections.setting(data),
    ]
    version = str(data.config.get("nasfast", "")).strip()
    return frame(data.name, version, _subtitle(data), sections.headline(data), "".join(body))
