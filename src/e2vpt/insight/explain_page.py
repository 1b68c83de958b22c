"""Explanations as a page: each picture a section, each model a row of it."""

from __future__ import annotations

from collections.abc import Sequence

from e2vpt.insight.documents import data_uri, marked_up, one_file_page, scrolling_table
from e2vpt.insight.explaining import NO_ATTENTION, Explanation
from e2vpt.insight.heat import as_picture, over_picture, place_of, signed_over_picture
from e2vpt.insight.shares import KINDS, NO_ROLLOUT, AttentionShares

GAP_TO_MENTION = 0.05
"""Of integrated gradients: from here on the page says that their sum is not complete."""


def explain_page(explanations: Sequence[Sequence[Explanation]]) -> bytes:
    """A section for each picture, with what every model makes of it."""
    sections = "".join(_section(number, rows) for number, rows in enumerate(explanations, 1))
    count = f"{len(explanations)} picture{'s' if len(explanations) > 1 else ''}"
    body = f"<header><h1>Explained predictions</h1><p>{count}. {_runs(explanations[0])}</p></header>\n"
    return one_file_page("Explained predictions", f"{body}<main>\n{_HOW_TO_READ}{sections}</main>\n")


_HOW_TO_READ = """<details class="card"><summary>How to read this page</summary>
<ul>
<li><b>Rollout</b>: where attention, followed back through all blocks, comes from. It is about the whole
answer, not about one class, and attention is not the same as importance.</li>
<li><b>Grad-CAM</b>: patches that raise the score of the explained class. Coarse: one value a patch.</li>
<li><b>Integrated gradients</b>: red pixels speak for the class, blue ones against it, compared with a picture
of one even colour. The values add up to the change in score.</li>
<li><b>Attention of each block</b>: what the block's tokens look at. In brackets: the share if
every key got the same; prompts above it are looked at more than an average key.</li>
<li><b>Without the prompts</b>: the same adapter with its prompts switched off. It is the direct test of what
they do; scales and biases that were tuned beside them stay on.</li>
</ul>
<p>None of these pictures proves why a model decided as it did. Trust what several of them agree on.</p>
</details>
"""


def _runs(rows: Sequence[Explanation]) -> str:
    runs = [f"<b>{marked_up(row.run)}</b> ({marked_up(row.method)})" for row in rows]
    return ("Runs: " if len(runs) > 1 else "Run: ") + ", ".join(runs) + "."


def _section(number: int, rows: Sequence[Explanation]) -> str:
    first, many = rows[0], len(rows) > 1
    body = "".join(_model(row, f"p{number}-{place}", many) for place, row in enumerate(rows))
    name = marked_up(first.file)
    return (
        f'<section class="card" aria-labelledby="p{number}"><h2 id="p{number}">{name}</h2>'
        f"<p>Explained: why <b>{marked_up(first.explained[0])}</b>?</p>{body}</section>\n"
    )


def _model(row: Explanation, key: str, many: bool) -> str:
    heading = f"<h3>{marked_up(row.run)} <small>{marked_up(row.method)}</small></h3>" if many else ""
    parts = [heading, _answer(row), f'<div class="pictures">{_pictures(row)}</div>']
    if row.shares is None:
        parts.append(f"<p class='soft'>{NO_ATTENTION}</p>")
    else:
        if row.rollout is None:
            parts.append(f"<p class='soft'>{NO_ROLLOUT} See Grad-CAM and gradients.</p>")
        parts.append(_attention(row.shares, key))
    return f'<div class="model">{"".join(parts)}</div>'


def _answer(row: Explanation) -> str:
    items = "".join(
        f'<li><span>{marked_up(name)}</span> <span class="num">{score:.1%}</span>'
        f'<span class="meter" aria-hidden="true"><span style="width:{score:.1%}"></span></span></li>'
        for name, score in row.top
    )
    text = f'<ol class="answer" aria-label="Most probable classes">{items}</ol>'
    name, score = row.explained
    if name not in [each for each, _ in row.top]:
        text += f"<p><b>{marked_up(name)}</b> has {score:.1%}.</p>"
    if row.without is not None:
        other, best, same = row.without
        said = f"<b>{marked_up(other)}</b> ({best:.1%})"
        if other != name:
            said += f", and {marked_up(name)} has {same:.1%}"
        text += f"<p>Without the prompts: {said}.</p>"
    return text


def _pictures(row: Explanation) -> str:
    explained, found = row.explained[0], []
    found.append(_picture("Picture, as the model gets it", data_uri(as_picture(row.seen)), row.file))
    if row.rollout is not None:
        patches = row.rollout.patches.float().numpy()
        share = row.rollout.shares[0] + row.rollout.shares[1]
        caption = f"Rollout: {float(share):.0%} from the image, {float(1 - share):.0%} from prompts"
        alt = f"Attention comes mostly from {place_of(patches)}."
        found.append(_picture(caption, data_uri(over_picture(row.seen, patches)), alt))
    alt = f"Patches that speak for {explained} lie mostly in {place_of(row.cam)}."
    if row.cam.max() <= 0:
        alt = f"No patch speaks for {explained}."
    found.append(_picture("Grad-CAM", data_uri(over_picture(row.seen, row.cam)), alt))
    caption = "Integrated gradients"
    if row.gap > GAP_TO_MENTION:
        caption += f" (sum off by {row.gap:.0%}; more --steps are closer)"
    alt = f"Pixels that speak for {explained} lie mostly in {place_of(row.integrated)}."
    found.append(_picture(caption, data_uri(signed_over_picture(row.seen, row.integrated)), alt))
    return "".join(found)


def _picture(caption: str, uri: str, alt: str) -> str:
    return f'<figure><img src="{uri}" alt="{marked_up(alt)}"><figcaption>{caption}</figcaption></figure>'


def _attention(shares: AttentionShares, key: str) -> str:
    used = [place for place in range(len(KINDS)) if float(shares.even[:, place].max()) > 0]
    legend = "".join(f'<li><span class="k{place}"></span>{KINDS[place]}</li>' for place in used)
    heads = "".join(f'<th scope="col" class="num">{KINDS[place]}</th>' for place in used)
    rows = "".join(
        _block_row(index, found, even, used)
        for index, (found, even) in enumerate(
            zip(shares.by_block().tolist(), shares.even.tolist(), strict=True), 1
        )
    )
    note = "" if used[-1] > 1 else "<p class='soft'>This adapter has no prompts.</p>"
    head = f'<th scope="col">block</th><th scope="col" class="wide">attention</th>{heads}'
    table = scrolling_table("Table of attention by block", head, rows)
    by_head = _by_head(shares, key) + _by_prompt(shares, key) if used[-1] > 1 else ""
    return (
        f'<h4>Attention of each block</h4>{note}<ul class="legend">{legend}</ul>{table}'
        f"<p class='soft'>In brackets: the share if every key got the same.</p>{by_head}"
    )


def _block_row(index: int, found: list[float], even: list[float], used: list[int]) -> str:
    bar = "".join(f'<span class="k{place}" style="width:{found[place]:.2%}"></span>' for place in used)
    cells = "".join(
        f'<td class="num">{found[place]:.1%} <small>({even[place]:.0%})</small></td>' for place in used
    )
    return (
        f'<tr><th scope="row">{index}</th><td><span class="bar" aria-hidden="true">{bar}</span></td>'
        f"{cells}</tr>"
    )


def _by_head(shares: AttentionShares, key: str) -> str:
    """What each head gives to the prompts, one table for each kind there is."""
    tables = "".join(
        _shaded(f"{KINDS[place]} by head", f"{KINDS[place]}: share of attention, block by head", cells)
        for place in (2, 3)
        if float(shares.even[:, place].max()) > 0
        for cells in [[list(map(_head_cell, row)) for row in shares.found[:, :, place].tolist()]]
    )
    return f'<details id="{key}-heads"><summary>Prompts, head by head</summary>{tables}</details>'


def _by_prompt(shares: AttentionShares, key: str) -> str:
    """What every single prompt gets, the mean over heads, one table for each kind there is."""
    tables = "".join(
        _shaded(f"{kind} one by one", f"{kind}: share of attention, block by prompt, mean over heads", cells)
        for kind, blocks in ((KINDS[2], shares.visual), (KINDS[3], shares.key_value))
        if any(block.shape[1] for block in blocks)
        for cells in [[list(map(_prompt_cell, block.mean(0).tolist())) for block in blocks]]
    )
    return f'<details id="{key}-prompts"><summary>Prompt by prompt</summary>{tables}</details>'


def _shaded(label: str, caption: str, cells: Sequence[Sequence[str]]) -> str:
    """A table of shares: a row for each block, as many columns as the longest has."""
    columns = range(1, max(map(len, cells)) + 1)
    head = '<th scope="col">block</th>' + "".join(f'<th scope="col" class="num">{i}</th>' for i in columns)
    rows = "".join(f'<tr><th scope="row">{i}</th>{"".join(row)}</tr>' for i, row in enumerate(cells, 1))
    return scrolling_table(label, head, rows, kind="heads", caption=caption)


def _head_cell(share: float) -> str:
    if share != share:  # A head that this block does not have.
        return "<td></td>"
    return f'<td class="num" style="--share:{min(share, 1):.3f}">{share:.0%}</td>'


def _prompt_cell(share: float) -> str:
    # A tenth of all attention is much for one prompt, and full colour.
    return f'<td class="num" style="--share:{min(10 * share, 1):.3f}">{share:.1%}</td>'
