"""From a workdir to `report.html`, `report.json` and `report.md`."""

from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.records.coco import Truth
from sare_jax.report import details, figures, frontier_figures, frontiers, page, training_figures
from sare_jax.report.attacked import attacks, with_excess
from sare_jax.report.comparisons import at_equal_footing, comparisons
from sare_jax.report.curated import curation, score_figure
from sare_jax.report.disjoint import disjoint, disjoint_finding
from sare_jax.report.finding import Finding
from sare_jax.report.findings import findings
from sare_jax.report.gallery import exhibits
from sare_jax.report.headline import headline, qualification
from sare_jax.report.masked import masking
from sare_jax.report.probed import probes
from sare_jax.report.read import Inputs, read
from sare_jax.report.shown import shown
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import Table, inert, result_tables, table_json, table_markdown


def write(
    workdir: Path,
    spec: ReportSpec | None = None,
    *,
    truth: Truth | None = None,
    images_dir: Path | None = None,
) -> Path:
    """Writes the report of a workdir: a self-contained page, and the same tables as JSON and Markdown.

    Equal files give equal reports, byte for byte.

    Args:
      workdir: folder of a run; `read.Inputs` lists the files that are read. The report is written there, too.
      spec: runs, settings and labels; None takes the defaults, which fit the demo.
      truth: COCO annotations of the test images; None leaves the gallery's captions unmarked.
      images_dir: folder of the image files; None shows captions without images.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: no metrics, or a file that cannot be read; names it.
    """
    workdir, spec = Path(workdir), spec or ReportSpec()
    inputs = read(workdir, spec)
    content = gather(inputs, spec, truth, Path(images_dir) if images_dir else None)
    files.write_json(workdir / "report.json", as_json(content, inputs))
    files.write_text(workdir / "report.md", as_markdown(content, spec))
    files.write_text(workdir / "report.html", page.render(content, spec))
    return workdir / "report.html"


def gather(inputs: Inputs, spec: ReportSpec, truth: Truth | None, images: Path | None) -> dict[str, Any]:
    """Name → sentences, tables and figures that the page, the JSON and the Markdown show."""
    setting = spec.setting(spec.headline_setting)
    shown = [key for key in (spec.base, spec.baseline, spec.ours) if spec.run(key)]
    first, *more = result_tables(inputs, spec)
    return {
        "headline": headline(inputs, spec),
        "qualification": qualification(inputs, spec),
        "findings": [
            *(frontiers.sentences(inputs.frontier, spec.ours) if inputs.frontier else ()),
            *findings(inputs, spec),
            *(item for item in (disjoint_finding(inputs, spec),) if item),
            *at_equal_footing(inputs, spec),
        ],
        "summary": details.summary(inputs, spec),
        "results": [with_excess(first, inputs, spec), *more],
        "attacks": attacks(inputs, spec),
        "disjoint": disjoint(inputs, spec),
        "masking": masking(inputs, spec),
        "probes": probes(inputs.probes, spec),
        "rules": details.rules(inputs, spec),
        "counts": details.counts(inputs, spec),
        "comparisons": comparisons(inputs, spec),
        "hero": figures.hero(inputs, spec),
        "frontier": frontiers.tables(inputs.frontier) if inputs.frontier else [],
        "frontier_figures": frontier_figures.frontiers(inputs.frontier) if inputs.frontier else None,
        "relearning": figures.relearning(inputs, spec),
        "prompts": figures.prompts(inputs, spec),
        "landscape": figures.landscape(inputs, spec),
        "sharpness": details.sharpness(inputs, spec),
        "training": training_figures.training(inputs, spec),
        "gallery": exhibits(inputs, spec, truth, images),
        "gallery_first": shown,
        "gallery_rest": [run.key for run in spec.runs if run.key not in shown],
        "attack_label": setting.label if setting else spec.headline_setting,
        "marked": truth is not None,
        "refresh": 0,
        "curation": curation(inputs),
        "curation_figures": score_figure(inputs),
        "selection": details.selection(inputs, spec),
        "missing": inputs.missing,
        "provenance": details.provenance(inputs),
    }


def _tables(content: dict[str, Any]) -> list[Table]:
    names = ("summary", "attacks", "disjoint", "masking", "probes", "comparisons", "sharpness", "selection")
    single = [content[name] for name in names]
    return [
        *content["frontier"],
        *content["results"],
        *(table for table in single if table),
        *content["curation"],
    ]


def as_json(content: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """`report.json`: headline, findings, tables, what is missing, hashes of the files that were read."""

    def finding(found: Finding) -> dict[str, str]:
        return {"text": found.text, "verdict": found.verdict}

    return {
        "headline": finding(content["headline"]),
        "qualification": content["qualification"],
        "findings": [finding(item) for item in content["findings"]],
        "tables": {table.key: table_json(table) for table in _tables(content)},
        "counts": content["counts"],
        "rules": [{"measure": name, "rule": rule} for name, rule in content["rules"]],
        "missing": content["missing"],
        "sources": inputs.sources,
    }


def as_markdown(content: dict[str, Any], spec: ReportSpec) -> str:
    """`report.md`: headline, findings, tables and notes in GitHub's Markdown."""
    parts = [f"# {spec.title}", f"**{content['headline'].text}**"]
    parts += [text for text in (content["qualification"], spec.subject) if text]
    parts.append("\n".join(f"- {item.text}" for item in content["findings"]))
    parts += [table_markdown(shown(table)).rstrip() for table in _tables(content)]
    notes = [*content["counts"], *(f"{name}: {rule}" for name, rule in content["rules"])]
    if notes:
        parts.append("## Counts and rules\n\n" + "\n".join(f"- {note}" for note in notes))
    if content["missing"]:
        parts.append("## Not in this report\n\n" + "\n".join(f"- {item}" for item in content["missing"]))
    return inert("\n\n".join(part for part in parts if part) + "\n")
