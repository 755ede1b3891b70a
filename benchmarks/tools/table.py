"""The table of the docs."""

from __future__ import annotations

from typing import Any

from benchmarks import huggingface
from benchmarks.tools.made import TOOLS

# What benchmarks.huggingface tries: its name there, how it was made, and what to type.
HUGGINGFACE = (
    ("module", "AutoModelForImageClassification.from_pretrained(NAME)",
     "backlit.export(model, FILE)"),
    ("hf", "model.save_pretrained(FOLDER)", "backlit export hf:FOLDER -o FILE"),
)  # fmt: skip


def table(results: list[dict[str, Any]]) -> str:
    """The table of the docs, from all results and those of benchmarks.huggingface."""
    rows = ["| tool | how it was exported | what to type | tried with | works |",
            "|---|---|---|---|---|"]  # fmt: skip
    worked, failed = [], []
    for tool in TOOLS:
        mine = [r for r in results if r["tool"] == tool.name]
        if not mine:
            continue
        typed = f"backlit export {tool.typed.replace('FILE', 'model.onnx')} -o FILE"
        made = [r for r in mine if r.get("by_tool")]
        good = [r["model"].partition("@")[0] for r in made if r["ok"]]
        rows.append(row(tool.name, tool.how, typed, f"{tool.package} {mine[0]['version']}",
                        len(good), len(made)))  # fmt: skip
        worked.append(f"* {tool.name}: {', '.join(good) or 'none'}.")
        failed += [
            f"* {tool.name}, {r['model'].partition('@')[0]}: "
            + ("" if r.get("by_tool") else "its own export fails: ")
            + plain(r["said"])
            for r in mine
            if not r["ok"]
        ]
    found = huggingface.results()
    for way, how, typed in HUGGINGFACE if found else ():
        good = [short(r["model"]) for r in found if r[way]["ok"]]
        rows.append(row(f"Hugging Face, {way}", how, typed, f"transformers {found[0]['version']}",
                        len(good), len(found)))  # fmt: skip
        worked.append(f"* Hugging Face, {way}: {', '.join(good)}.")
        failed += [f"* Hugging Face, {way}, {short(r['model'])}: {plain(r[way]['reason'])}"
                   for r in found if not r[way]["ok"]]  # fmt: skip
    told = ["", "What worked:", "", *worked]
    return "\n".join([*rows, *told, *(["", "What did not:", "", *failed] if failed else [])])


def row(name: str, how: str, typed: str, version: str, good: int, of: int) -> str:
    return f"| {name} | `{how}` | `{typed}` | {version} | {good} of {of} |"


def short(model: str) -> str:
    return model.replace("ForImageClassification", "")


def plain(said: str) -> str:
    """A message as a line of Markdown."""
    return said.translate(str.maketrans("|<>*", "/()x")).replace("_", "\\_")
