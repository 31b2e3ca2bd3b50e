"""Findings and writes as HTML: the one look of the panels and of the development page.

Everything that comes from an application is escaped, and nothing is loaded from elsewhere. Colours
are mixed from the colour of the text around them, so that they suit a light page and a dark one.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from contextcache.base.words import format_size, pluralize
from contextcache.findings.finding import SILENT
from contextcache.findings.path import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contextcache.findings.finding import Finding
    from contextcache.reports.request_scope import Write

MOST_VIEWS = 3  # that are named for one field

Row = dict[str, Any]
"""A finding or a write as plain data, such as a debug toolbar keeps in its store."""

# The ids, which nothing has, let these rules win over those a toolbar has for its own panels.
_OURS = ":is(#contextcache#contextcache, .contextcache)"

STYLE = """
& { --code: color-mix(in srgb, #c77700 72%, currentColor);
  --good: color-mix(in srgb, #14995a 72%, currentColor);
  --bad: color-mix(in srgb, #d43c3c 76%, currentColor);
  --soft: color-mix(in srgb, currentColor 62%, transparent);
  --line: color-mix(in srgb, currentColor 14%, transparent);
  --wash: color-mix(in srgb, currentColor 5%, transparent);
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace;
  line-height: 1.5; text-align: left }
& code, & pre { display: inline; margin: 0; font: 0.9em/1.5 var(--mono); overflow-wrap: anywhere;
  background: none; border: 0; color: inherit; padding: 0; white-space: pre-wrap }
& h3 { font-size: 1em; font-weight: 600; margin: 2em 0 0.6em; color: var(--soft);
  background: none; padding: 0 }
& h3:first-child { margin-top: 0.4em }
& article { border: 1px solid var(--line); border-radius: 8px; margin: 0 0 14px;
  padding: 14px 18px 12px; background: none }
& .head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline }
& .head .code { color: var(--code); font-weight: 600; font-size: 0.9em;
  font-family: var(--mono) }
& .head .path { font-size: 1.05em; font-weight: 600; flex: 1 1 20em }
& .head .count { color: var(--soft); font-size: 0.9em; white-space: nowrap }
& p.why { display: block; font: inherit; margin: 2px 0 10px; padding: 0; color: inherit }
& dl { display: grid; grid-template-columns: 4.6em 1fr; gap: 3px 12px; margin: 0;
  align-items: baseline }
& dt { float: none; color: var(--soft); font-weight: 400; margin: 0; padding: 0 }
& dd { float: none; margin: 0; padding: 0; overflow-wrap: anywhere; min-width: 0 }
& .also { color: var(--soft) }
& .patch { position: relative }
& .patch button { position: absolute; top: 8px; right: 8px }
& .fix { color: var(--good); font-weight: 500 }
& dd pre { display: block; margin: 2px 0 4px; padding: 8px 12px; background: var(--wash);
  border-radius: 6px; user-select: all; color: inherit }
& dd.silence { display: flex; gap: 10px; align-items: baseline; color: var(--soft) }
& dd.silence code { user-select: all }
& button { font: inherit; font-size: 0.85em; color: inherit; background: var(--wash);
  border: 1px solid var(--line); border-radius: 6px; padding: 1px 9px; cursor: pointer }
& button:hover { border-color: var(--soft) }
& button:focus-visible { outline: 2px solid var(--good); outline-offset: 1px }
& .wide { overflow-x: auto }
& table { border-collapse: collapse; width: 100%; margin: 0; background: none;
  font-size: inherit; border: 0 }
& th, & td { text-align: left; vertical-align: baseline; border: 0;
  border-bottom: 1px solid var(--line); padding: 5px 14px 5px 0; background: none; color: inherit }
& th { color: var(--soft); font-weight: 400 }
& .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
& tr.lost .outcome { color: var(--bad) }
& tr.cut .outcome { color: var(--code) }
& .none { color: var(--soft); padding: 0; margin: 0 0 1em }
""".replace("&", _OURS)


def finding_row(
    finding: Finding, *, silence: str = 'CONTEXTCACHE["IGNORE"] += []', also: Sequence[str] = ()
) -> Row:
    """Return what a page shows of `finding`, as plain data.

    Args:
        finding: Any finding.
        silence: The line that silences, with an empty list for the patterns; see `Config`.
        also: Other views in which this field was found.
    """
    pattern = json.dumps([finding.path.pattern], ensure_ascii=False)
    return {
        "code": finding.code,
        "path": str(finding.path),
        "leaf_type": finding.leaf_type,
        "verdict": "should not be stored" if finding.code in SILENT else "cannot be stored",
        "reason": finding.reason,
        "at": " · ".join(filter(None, (finding.origin, finding.sink))),
        "also": _listed(also),
        "field": finding.field,
        "did": finding.did,
        "fix": finding.fix,
        "patch": getattr(finding, "patch", ""),
        "silence": silence.replace("[]", pattern),
        "count": finding.count,
    }


def finding_rows(findings: Iterable[Finding], *, silence: str) -> list[Row]:
    """Return one row for each field, with its count, however many items have it.

    Args:
        findings: The findings of a request.
        silence: As that of `finding_row`.
    """
    rows: dict[tuple[str, str], Row] = {}
    for finding in findings:
        row = finding_row(finding, silence=silence)
        rows.setdefault((row["code"], row["silence"]), {**row, "count": 0})["count"] += 1
    return list(rows.values())


def write_row(write: Write) -> Row:
    """Return what a page shows of `write`, as plain data."""
    return {
        "label": str(Path(write.label, hidden=write.hidden)),
        "sink": write.sink,
        "size": write.size,
        "seconds": write.seconds,
        "outcome": write.outcome + _found(write),
        "state": "lost" if not write.stored else "cut" if write.findings else "",
    }


def _found(write: Write) -> str:
    if not (write.stored and write.findings):
        return ""
    return f", {pluralize(write.findings, 'finding')}"


def findings(rows: Iterable[Mapping[str, Any]], *, copying: bool = False) -> str:
    """Return findings as HTML.

    Args:
        rows: What `finding_row` returned.
        copying: Whether the page has a script for buttons that copy.
    """
    told: list[str] = []
    patches: set[str] = set()
    for row in rows:
        told.append(_finding(row, copying, known=row["patch"] in patches))
        patches.add(row["patch"])
    return "".join(told) or _none("Nothing found.")


def writes(rows: Sequence[Mapping[str, Any]], *, requests: bool = False) -> str:
    """Return writes as an HTML table.

    Args:
        rows: What `write_row` returned.
        requests: Whether each has its `request`, too.
    """
    if not rows:
        return _none("Nothing was written to a cache or session.")
    titles = (["request"] if requests else []) + ["key", "where", "outcome"]
    head = "".join(f"<th>{title}</th>" for title in titles)
    head += '<th class="number">size</th><th class="number">time</th>'
    body = "".join(_write(row, requests) for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _finding(row: Mapping[str, Any], copying: bool, *, known: bool) -> str:
    count = f'<span class="count">{int(row["count"])}×</span>' if row["count"] > 1 else ""
    also = f'<div class="also">{escape(row["also"])}</div>' if row["also"] else ""
    told = f"<dt>at</dt><dd>{escape(row['at'] or '–')}{also}</dd>"
    if row["field"]:
        where, _, source = row["field"].partition(": ")
        line = f"<pre>{escape(source)}</pre>" if source else ""
        told += f"<dt>field</dt><dd><code>{escape(where)}</code>{line}</dd>"
    told += f"<dt>did</dt><dd>{escape(row['did'])}</dd>"
    button = '<button type="button" data-copy>copy</button>' if copying else ""
    patch = ""
    if row["patch"] and known:  # one piece of code mends all fields of a class
        patch = '<div class="also">the code above does it</div>'
    elif row["patch"]:
        patch = f'<div class="patch"><pre>{escape(row["patch"])}</pre>{button}</div>'
    told += f'<dt>fix</dt><dd><span class="fix">{escape(row["fix"])}</span>{patch}</dd>'
    told += (
        f'<dt>silence</dt><dd class="silence"><code>{escape(row["silence"])}</code>{button}</dd>'
    )
    return (
        f'<article><div class="head"><span class="code">{escape(row["code"])}</span>'
        f'<code class="path">{escape(row["path"])}</code>{count}</div>'
        f'<p class="why">A <code>{escape(row["leaf_type"])}</code> {escape(row["verdict"])}: '
        f"{escape(row['reason'])}.</p><dl>{told}</dl></article>"
    )


def _write(row: Mapping[str, Any], requests: bool) -> str:
    request = f"<td>{escape(row['request'])}</td>" if requests else ""
    size = "–" if row["size"] is None else format_size(row["size"])
    return (
        f'<tr class="{escape(row["state"])}">{request}<td><code>{escape(row["label"])}</code></td>'
        f'<td>{escape(row["sink"])}</td><td class="outcome">{escape(row["outcome"])}</td>'
        f'<td class="number">{size}</td>'
        f'<td class="number">{row["seconds"] * 1000:.2f} ms</td></tr>'
    )


def _listed(views: Sequence[str]) -> str:
    if not views:
        return ""
    more = f" and {len(views) - MOST_VIEWS} more" if len(views) > MOST_VIEWS else ""
    return f"also {', '.join(views[:MOST_VIEWS])}{more}"


def _none(text: str) -> str:
    return f'<p class="none">{text}</p>'


# --- The page of a process ------------------------------------------------------------------------


def document(title: str, body: str, nonce: str) -> str:
    """Return a whole page that needs nothing but itself.

    Args:
        title: Plain text.
        body: HTML.
        nonce: The random text by which a content security policy knows our style and script.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        '<link rel="icon" href="data:,">'
        f'<style nonce="{escape(nonce)}">{_PAGE_STYLE}{STYLE}</style></head>'
        f'<body><main class="contextcache">{body}</main>'
        f'<script nonce="{escape(nonce)}">{_SCRIPT}</script></body></html>\n'
    )


_PAGE_STYLE = """
:root { color-scheme: light dark }
body { margin: 0; background: light-dark(#fbfbfa, #17191c); color: light-dark(#23262b, #d9dce1);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 4rem }
header h1 { font-size: 1.35rem; font-weight: 650; letter-spacing: -0.01em; margin: 0 }
header p { margin: 0.2rem 0 0; color: var(--soft) }
article { background: light-dark(#ffffff, #1d2024) !important }
"""

# Copies what stands before a button, and looks for news when somebody comes back to the page.
_SCRIPT = """
addEventListener("click", async ({ target }) => {
  if (!target.matches("[data-copy]")) return;
  const code = target.previousElementSibling;
  try { await navigator.clipboard.writeText(code.textContent); }
  catch { getSelection().selectAllChildren(code); document.execCommand("copy"); }
  target.textContent = "copied";
  setTimeout(() => { target.textContent = "copy"; }, 1500);
});
addEventListener("focus", async () => {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const [part] = (await answer.text()).match(/<main[^]*<\\/main>/);
  const page = new DOMParser().parseFromString(part, "text/html");
  const [now, news] = [document, page].map((one) => one.querySelector("main"));
  if (now.innerHTML !== news.innerHTML) now.replaceWith(news);
});
"""
