"""Reads the files of a workdir. The other modules of this package read nothing else from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.report import forms
from sare_jax.report.frontier_forms import Frontier, check_frontier
from sare_jax.report.spec import FLOOR, ReportSpec
from sare_jax.schema import checked

Plain = dict[str, Any]
"""Of a file that is shown by its keys, whatever they are."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a report is made from.

    Attributes:
      metrics: (run, setting) → contents of `metrics/RUN/SETTING.json`; the floor's base model stands
        here under `spec.FLOOR`.
      logs: run → training records, one per step.
      answers: (run, setting) → caption records `{"image_id", "image", "text", ...}`.
      landscape: contents of `landscape.json`, or None.
      comparisons: contents of `comparisons.json`; empty where there is none.
      selection: contents of `selection.json`, or None.
      config: contents of `config.json`; empty where there is none.
      manifest: contents of `curated/manifest.json`, or None.
      frontier: contents of `frontier.json`, or None.
      attacks: (run, setting) → contents of `attacks/<run>/<setting>.json`, what an attack on weights did.
      masking: run → contents of `masking/<run>.json`.
      probes: (run, setting) → contents of `probes/<run>/<setting>.json`.
      missing: descriptions of the files that are missing, for the reader.
      sources: path of each file that was read, relative to the workdir → SHA-256.
      cache: paired differences that `contrasts` and `excess` computed already, by what they compare.
    """

    metrics: dict[tuple[str, str], dict]
    logs: dict[str, list[dict]]
    answers: dict[tuple[str, str], list[dict]]
    landscape: dict | None
    comparisons: list[dict]
    selection: dict | None
    config: dict
    manifest: dict | None
    frontier: dict | None
    probes: dict[tuple[str, str], dict]
    attacks: dict[tuple[str, str], dict]
    masking: dict[str, dict]
    missing: list[str]
    sources: dict[str, str]
    cache: dict[tuple, dict] = field(default_factory=dict, repr=False, compare=False)

    def result(self, run: str, setting: str) -> dict | None:
        """Metrics of one run under one setting, or None where it was not run."""
        return self.metrics.get((run, setting))


@dataclass
class _Reader:
    workdir: Path
    missing: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    def json(self, name: str, form: Any, what: str, check: Callable[[Any, str], None] | None = None) -> Any:
        """Contents of an optional JSON file of that form; if it is missing, notes `what` and returns None."""
        if not self._found(name, what):
            return None
        path = self.workdir / name
        content = files.read_json(path)
        self._check(path, content, form, check)
        return content

    def jsonl(self, name: str, form: Any, what: str) -> list[dict]:
        """Records of an optional file, each of that form; if it is missing, notes `what`."""
        if not self._found(name, what):
            return []
        records = files.read_jsonl(self.workdir / name)
        self._check(self.workdir / name, records, list[form], None)
        return records

    def _check(self, path: Path, content: Any, form: Any, check: Callable[[Any, str], None] | None) -> None:
        try:
            checked(content, form, str(path))
            if check:
                check(content, str(path))
        except UserError as error:
            raise UserError(f"{error}; remove the file and run its stage again") from None

    def _found(self, name: str, what: str) -> bool:
        path = self.workdir / name
        if path.is_file():
            self.sources[name] = files.hash_file(path)
            return True
        if what:
            self.missing.append(f"{what} ({name})")
        return False


def read(workdir: Path, spec: ReportSpec) -> Inputs:
    """Reads the artifacts of a workdir.

    At least one metrics file must be there; other missing files are named in `Inputs.missing`.

    Raises:
      UserError: the folder or all metrics are missing, or a file cannot be read; names it.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; give the workdir of a finished run")
    reader = _Reader(workdir)
    metrics = _metrics(reader, spec)
    if not metrics:
        raise UserError(
            f"{workdir / 'metrics'}: no result of any run; run the stages evaluate and attack first"
        )
    metrics |= _floor(reader, spec)
    logs = {
        run.key: reader.jsonl(f"logs/{run.key}.jsonl", forms.Logged, f"training log of {run.label}")
        for run in trained(spec)
    }
    comparisons = reader.json(
        "comparisons.json", list[forms.Comparison], "paired comparisons", forms.check_comparisons
    )
    manifest = "curated/manifest.json"
    return Inputs(
        metrics=metrics,
        logs={key: records for key, records in logs.items() if records},
        answers=_answers(reader, spec),
        landscape=reader.json("landscape.json", forms.Landscape, "loss landscape"),
        comparisons=comparisons or [],
        selection=reader.json("selection.json", Plain, "choice of hyper-parameters"),
        config=reader.json("config.json", Plain, "settings of the run") or {},
        manifest=reader.json(manifest, forms.Manifest, "curation manifest", forms.check_manifest),
        probes=_by_setting(reader, spec, "probes", forms.Probe),
        attacks=_by_setting(reader, spec, "attacks", forms.Attack, forms.check_attack),
        masking=_by_run(reader, spec, "masking", forms.Masking),
        frontier=reader.json("frontier.json", Frontier, "", check_frontier),
        missing=reader.missing,
        sources=reader.sources,
    )


def trained(spec: ReportSpec) -> tuple:
    """The runs that were trained: all but the base model."""
    return tuple(run for run in spec.runs if run.key != spec.base)


def read_probes(workdir: Path, spec: ReportSpec) -> dict[tuple[str, str], dict]:
    """The probes of a workdir alone, by run and setting."""
    return _by_setting(_Reader(Path(workdir)), spec, "probes", forms.Probe)


def _by_setting(
    reader: _Reader,
    spec: ReportSpec,
    folder: str,
    form: Any,
    check: Callable[[Any, str], None] | None = None,
) -> dict[tuple[str, str], dict]:
    """The JSON objects of a folder with a folder a run and a file a setting."""
    contents = {
        (run.key, setting.key): reader.json(f"{folder}/{run.key}/{setting.key}.json", form, "", check)
        for run in spec.runs
        for setting in spec.settings
    }
    return {key: content for key, content in contents.items() if content is not None}


def _by_run(reader: _Reader, spec: ReportSpec, folder: str, form: Any) -> dict[str, dict]:
    """The JSON objects of a folder with a file a run."""
    contents = {run.key: reader.json(f"{folder}/{run.key}.json", form, "") for run in spec.runs}
    return {key: content for key, content in contents.items() if content is not None}


def _metrics(reader: _Reader, spec: ReportSpec) -> dict[tuple[str, str], dict]:
    results = {}
    for run in spec.runs:
        for setting in spec.settings:
            name = f"metrics/{run.key}/{setting.key}.json"
            result = reader.json(name, forms.Metrics, f"results of {run.label}, {setting.label}")
            if result is not None:
                results[run.key, setting.key] = result
    return results


def _floor(reader: _Reader, spec: ReportSpec) -> dict[tuple[str, str], dict]:
    """Rows of the base model in the floor's workdir, which notes what it lacks like the workdir itself."""
    if not spec.floor:
        return {}
    folder = Path(spec.floor)
    if not folder.is_dir():
        reader.missing.append(f"the floor's workdir ({folder})")
        return {}
    floor = _Reader(folder, reader.missing)
    rows = {}
    for setting in spec.settings:
        name = f"metrics/{spec.base}/{setting.key}.json"
        result = floor.json(name, forms.Metrics, f"results of the floor, {setting.label}")
        if result is not None:
            rows[FLOOR, setting.key] = result
    reader.sources.update({f"{folder}/{name}": digest for name, digest in floor.sources.items()})
    return rows


def _answers(reader: _Reader, spec: ReportSpec) -> dict[tuple[str, str], list[dict]]:
    """Captions of the settings that the gallery shows: before and after the headline attack."""
    captions = {}
    for run in spec.runs:
        for setting in ("origin", spec.headline_setting):
            relearned = spec.setting(setting)
            if run.key == spec.base and relearned and relearned.samples:
                continue
            records = reader.jsonl(f"answers/{run.key}/{setting}/captions.jsonl", forms.Answer, "")
            if records:
                captions[run.key, setting] = records
    if not captions:
        reader.missing.append("captions for the gallery (answers/<run>/<setting>/captions.jsonl)")
    return captions
