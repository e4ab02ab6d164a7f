"""What all benchmarks share: requests for a model, and joining its answers to their questions.

A benchmark's reader gives questions: dicts with `id`, `image` (relative to the benchmark's image folder;
absent for questions without one), `question`, `label` (the right answer), `groups` ({dimension: name or
names}, the first dimension being the main one), for multiple choice `choices` and `options` (lines), and
whatever else its scorer needs, so that answered requests can be scored without the benchmark's files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.columns import Counts, Measure
from sare_jax.evaluation.pairing import key_of, texts_of
from sare_jax.extensions import resolve
from sare_jax.files import hash_value
from sare_jax.records.texts import Dropped, read_records, settings_of

__all__ = [
    "ANSWER_KEYS",
    "NOT_STATED",
    "SINGLE_WORD",
    "Answered",
    "Benchmark",
    "Judging",
    "Pairs",
    "Reader",
    "Scorer",
    "asked_of",
    "benchmarks_of",
    "fill",
    "find",
    "folder_of",
    "pair",
    "requests",
    "template_of",
    "unread",
]

ANSWER_KEYS = ("text", "prediction", "response", "answer")
NOT_STATED = "not stated"
SINGLE_WORD = "{}\nAnswer the question using a single word or phrase."

Reader = Callable[[Path], list[dict]]
Scorer = Callable[..., dict[str, Any]]
Pairs = list[tuple[dict, str | None]]


@dataclass(frozen=True)
class Judging:
    """What a language model is asked about an answer before the answer can be scored.

    Attributes:
      key: key under which its verdict stands in an answered record.
      prompt: from a question and its answer's text to what the judge is asked; empty where there is nothing
        to ask.
      read: from the judge's reply to the verdict, JSON-able; raises `UnreadableError`.
      unasked: the verdict where there is nothing to ask.
    """

    key: str
    prompt: Callable[[dict, str], str]
    read: Callable[[str], Any]
    unasked: Any = None


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark: how its files are read, what is asked, and how answers become numbers.

    Attributes:
      name: key of its result under `benchmarks` in a row, and that result's `metric`.
      title: its name in tables.
      about: what it asks, in one line for help texts.
      prompts: templates by name, the official one and EFUF's ("lineage"): `{}` stands for the question,
        `{options}` for its `options`: the lines of its choices, or how it is to be answered.
      read: from a file or folder in the official format to its questions.
      images: from such a file or folder to the folder of its images.
      score: from questions and answers to a JSON-able result; see e.g. `mme.score`.
      shown: keys of the result that the command line prints.
      counts: columns of `per_image`, and the numbers made from their sums.
      columns: its columns in the report's table of benchmarks.
      whole: why it must be asked as a whole; empty where a part of its questions may be taken.
      read_answers: from the path of a file of answers to records and what was left out.
      max_new_tokens: the most tokens of an answer.
      layout: from questions with their answers to the text of a file that the official script reads; None
        where it has none.
      judging: what a language model is asked about each answer; None where no judge is needed.
    """

    name: str
    title: str
    about: str
    prompts: dict[str, str]
    read: Reader
    images: Callable[[Path], Path]
    score: Scorer
    shown: tuple[str, ...]
    counts: Counts
    columns: tuple[Measure, ...]
    whole: str = ""
    read_answers: Callable[[str], tuple[list[dict], Dropped]] = field(default=read_records)
    max_new_tokens: int = 32
    layout: Callable[[Pairs], str] | None = None
    judging: Judging | None = None


def benchmarks_of(
    paths: Mapping[str, str], where: str = "config.evaluate.benchmarks"
) -> tuple[tuple[Benchmark, Path], ...]:
    """Benchmarks that have a path, in the table's order, those from outside the package last.

    Args:
      paths: short name or `module:name` → file or folder of the benchmark; an empty path leaves it out.
      where: dotted key of the config's section, for messages.

    Raises:
      UserError: an unknown name, something that is no `Benchmark`, or two of one name.
    """
    order = list(BENCHMARKS)
    benchmarks: dict[str, tuple[Benchmark, Path]] = {}
    for name in sorted(paths, key=lambda name: order.index(name) if name in BENCHMARKS else len(order)):
        benchmark = resolve(name, BENCHMARKS, where)
        if not isinstance(benchmark, Benchmark):
            raise UserError(f"{where}: {name} is no Benchmark")
        if benchmark.name in benchmarks:
            raise UserError(f"{where}: {name} is called {benchmark.name!r}, as another benchmark is")
        if paths[name]:
            benchmarks[benchmark.name] = benchmark, Path(paths[name])
    return tuple(benchmarks.values())


def asked_of(name: str, title: str) -> Measure:
    """The report's column of how many questions were asked."""
    path = ("benchmarks", name, "n")
    return Measure(f"{name}_n", f"{title} n", path, digits=0, help="Questions asked.")


def requests(
    benchmark: Benchmark, path: Path, *, prompt: str = "official", first: int = 0, prefix: str = ""
) -> list[dict]:
    """Questions as generation requests, whose answers can be scored without the benchmark's files.

    Args:
      benchmark: the benchmark whose questions are asked.
      path: its file or folder in the official format.
      prompt: name of one of its prompts, or a template with `{}`.
      first: takes only this many questions, from the beginning (EFUF takes 1,600); 0 takes all.
      prefix: stands before every prompt, e.g. an adversarial sentence.

    Returns:
      The questions that have an image, each with `instruction`, `template` and `subset` (what part of the
      benchmark these are, in words).

    Raises:
      UserError: files are missing or not in the format, an unknown prompt, or a part of what is scored whole.
    """
    if first < 0:
        raise UserError(f"first: {first} is no number of questions")
    template = prefix + template_of(benchmark, prompt)
    questions = benchmark.read(path)
    asked = [question for question in questions if "image" in question]
    subset = f"all {len(questions)} questions"
    if len(asked) < len(questions):
        subset = f"the {len(asked)} of {len(questions)} questions that have an image"
    if first and first < len(asked):
        if benchmark.whole:
            raise UserError(f"{benchmark.name}: {benchmark.whole}; leave out the limit of {first} questions")
        subset = f"the first {first} of {subset}"
        asked = asked[:first]
    return [
        {**question, "instruction": fill(template, question), "template": template, "subset": subset}
        for question in asked
    ]


def template_of(benchmark: Benchmark, prompt: str) -> str:
    """The template of that name among the benchmark's prompts, or the prompt itself where it holds `{}`.

    Raises:
      UserError: the prompt is no known name and holds no `{}`.
    """
    if prompt in benchmark.prompts:
        return benchmark.prompts[prompt]
    if "{}" not in prompt:
        known = ", ".join(benchmark.prompts)
        raise UserError(f"prompt: {prompt!r} is none of {known}, and has no {{}} for the question")
    return prompt


def fill(template: str, question: dict) -> str:
    """The template with the question, and the lines of its choices, filled in."""
    return template.replace("{options}", question.get("options", "")).replace("{}", question["question"])


@dataclass(frozen=True)
class Answered:
    """Questions beside their answers.

    Attributes:
      pairs: each question, with its answer's text or None where there is none.
      about: JSON-able entries that every result has: `n`, `missing`, `skipped`, `dropped`, `prompt`,
        `questions` (their fingerprint), `subset`, `settings`, `warnings`.
    """

    pairs: Pairs
    about: dict[str, Any]


def pair(
    questions: Sequence[dict],
    answers: Sequence[dict],
    fits: Callable[[dict], bool],
    dropped: Dropped | None = None,
    unanswered: str = "count as wrong",
) -> Answered:
    """Puts answers beside questions; a question without an answer stays, as one that was answered wrong.

    Args:
      questions: from a reader or from `requests`; answered requests serve as both arguments.
      answers: records with the question's id and `text`, `prediction`, `response` or `answer`.
      fits: whether a question has what the benchmark needs; called with questions whose types are right.
      dropped: reason → places of the records that reading the files left out.
      unanswered: what becomes of questions without an answer, for the warning.

    Raises:
      UserError: a question twice or of another benchmark, two answers to a question, answers to none, to
        several prompts, or none.
    """
    dropped = Dropped(dropped or {})
    for place, question in enumerate(questions, start=1):
        if not (_well_formed(question) and fits(question)):
            raise UserError(f"question {place} ({str(key_of(question))[:60]}) is not in the benchmark's form")
    keys = [str(key_of(question)) for question in questions]
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise UserError(f"question(s) {', '.join(twice[:20])} stand in the list twice; keep one each")
    texts = texts_of(questions, answers, dropped, ANSWER_KEYS)
    if not texts:
        raise UserError(f"nothing left to score: {len(questions)} questions, none with an answer")
    _check_carried(dict(zip(keys, questions, strict=True)), answers)
    missing = [key for key in keys if key not in texts]
    template = _template(questions, answers)
    warnings = []
    if missing:
        warnings.append(f"{len(missing)} of {len(keys)} questions have no answer and {unanswered}")
    about = {
        "n": len(keys),
        "missing": {"count": len(missing), "which": missing[:20]},
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "prompt": {"template": template, "sha256": hash_value(template)[:12]},
        "questions": {"n": len(keys), "fingerprint": _fingerprint(questions)},
        "subset": next((q["subset"] for q in questions if "subset" in q), f"all {len(keys)} questions"),
        "settings": {k: v for k, v in settings_of(list(answers)).items() if k != "instruction"},
        "warnings": warnings,
    }
    return Answered(list(zip(questions, map(texts.get, keys), strict=True)), about)


def _well_formed(question: dict) -> bool:
    """Whether a question has all entries that it needs, each of the right type."""
    named = ("question", "label", "image", "options", "subset")
    texts = (question.get(name) for name in named if name in question)
    groups, choices = question.get("groups"), question.get("choices", [])
    return (
        key_of(question) is not None
        and {"question", "label"} <= question.keys()
        and all(isinstance(text, str) for text in texts)
        and isinstance(groups, dict)
        and all(map(_texts, groups.values()))
        and _texts(choices)
        and bool(question["label"])
    )


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _check_carried(questions: dict[str, dict], answers: Sequence[dict]) -> None:
    """Refuses answers whose own `question` or `label` differs from that of the question with their id."""
    for answer in answers:
        question = questions.get(str(key_of(answer)), {})
        for name in ("question", "label"):
            if name in answer and name in question and answer[name] != question[name]:
                raise UserError(
                    f"answer to {question['id']}: its {name} is {str(answer[name])[:60]!r}, not "
                    f"{question[name][:60]!r}; the answers are to other questions than these"
                )


def _template(questions: Sequence[dict], answers: Sequence[dict]) -> str:
    """The prompt's template, by the answers or else by the questions; `NOT_STATED` where neither has it."""
    for records in (answers, questions):
        templates = {str(record["template"]) for record in records if "template" in record}
        if len(templates) > 1:
            raise UserError(
                f"answers to {len(templates)} different prompts in one file; score each on its own"
            )
        if templates:
            return templates.pop()
    return NOT_STATED


def _fingerprint(questions: Sequence[dict]) -> str:
    asked = [[str(key_of(q)), q["question"], q["label"], q.get("options", "")] for q in questions]
    return hash_value(sorted(asked))[:12]


def unread(count: int, total: int, rule: str, what: str) -> list[str]:
    """One warning where some answers could not be read, else an empty list."""
    if not count:
        return []
    share = f"all {total}" if count == total else f"{count} of {total}"
    return [f"{rule}: {share} answers could not be read as {what} and count as wrong"]


def find(path: Path, names: Sequence[str], what: str) -> Path:
    """A benchmark's file: the path itself, or the first of some names in that folder.

    Raises:
      UserError: none of these files exists; names what was looked for.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in names:
        if (path / name).exists():
            return path / name
    raise UserError(f"{path}: no such file, and no {' or '.join(names)} in it; give {what}")


def folder_of(path: Path, names: Sequence[str]) -> Path:
    """The image folder beside a benchmark's file: the first of the names that exists, else the first name."""
    root = path if Path(path).is_dir() else Path(path).parent
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])
