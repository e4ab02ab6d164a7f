"""The answer to the report's question, and the caveats that go with it."""

from collections.abc import Iterator
from typing import NamedTuple

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.chair import CHAIR_S, RECALL, WORDS
from sare_jax.report import frontiers
from sare_jax.report.attacked import advice
from sare_jax.report.contrasts import contrast, measured
from sare_jax.report.excess import given_back
from sare_jax.report.finding import Finding
from sare_jax.report.findings import numbers_of, versus, when, within
from sare_jax.report.probed import taught_sentence
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec, SettingSpec
from sare_jax.report.tables import interval_text, number_text, signed_text


class Gap(NamedTuple):
    """A number that two runs must nearly share before the attack, else their CHAIR_S is not compared.

    Attributes:
      measure: the number: recall, or mean length of captions.
      unit: its unit in words: points, or words.
      ours, baseline: its values for the proposed run and the baseline, before the attack.
      bound: the largest difference at which they count as equal.
    """

    measure: Measure
    unit: str
    ours: float
    baseline: float
    bound: float

    @property
    def size(self) -> float:
        """The difference to the digits shown."""
        return round(abs(self.ours - self.baseline), self.measure.digits)

    @property
    def label(self) -> str:
        """The number's name within a sentence."""
        return {"recall": "recall", "mean_words": "caption length"}[self.measure.key]


def headline(inputs: Inputs, spec: ReportSpec) -> Finding:
    """Answers whether the proposed run hallucinates less after the attack than the baseline.

    Where there are frontiers, methods are compared on their curves, at equal recall before the attack. Single
    runs are compared where recall and caption length before the attack are equal within the spec's bounds;
    elsewhere the answer is that they are not comparable.
    """
    if inputs.frontier:
        answer = frontiers.headline(inputs.frontier, spec.ours, spec.baseline, spec.equal_words)
        if answer is not None:
            return answer
    ours, baseline = spec.label(spec.ours), spec.label(spec.baseline)
    if spec.ours == spec.baseline:
        return Finding(f"{ours} is held against no other run, so nothing is compared", "", "open")
    setting = _attack(spec)
    answer = versus(inputs, spec, spec.ours, spec.baseline, setting)
    if answer is None:
        claim = f"{when(setting)}, {ours} and {baseline} were not both measured, so the question is open"
        return Finding(claim, "", "open")
    unequal = [gap for gap in _gaps(inputs, spec) if gap.size > gap.bound]
    numbers = f"{answer.numbers}{_before(inputs, spec)}"
    if unequal:
        apart = " and ".join(f"{number_text(gap.size)} {gap.unit} of {gap.label}" for gap in unequal)
        claim = f"{ours} and {baseline} are not comparable: before the attack they are {apart} apart"
        return Finding(claim, f"{when(setting)}, {numbers}", "open")
    return Finding(answer.claim, numbers, answer.verdict)


def qualification(inputs: Inputs, spec: ReportSpec) -> str:
    """What the attack gave back beyond what it teaches, and whether recall and length are equal."""
    runs = tuple(dict.fromkeys((spec.ours, spec.baseline)))
    if inputs.frontier and (recall := frontiers.best_recall(inputs.frontier, spec.ours)) is not None:
        return " ".join(frontiers.excess_sentence(inputs.frontier, method, recall) for method in runs)
    parts = [excess_sentence(inputs, spec, run) for run in runs]
    parts += [taught_sentence(inputs.probes, spec, run, spec.headline_setting) for run in runs]
    if len(runs) > 1:
        parts += [_equality(inputs, spec), _after(inputs, spec)]
    return " ".join(part for part in parts if part)


def excess_sentence(inputs: Inputs, spec: ReportSpec, run: str) -> str:
    """What the headline's attack adds to a run beyond what it teaches; empty where it was not attacked."""
    relearnt = given_back(inputs, spec, run, spec.headline_setting)
    if relearnt is None:
        return ""
    name, base = spec.label(run), within(spec.label(spec.base))
    given = f"The attack adds {number_text(relearnt.amount)} points of CHAIR_S to {name}"
    if relearnt.excess is None or relearnt.by_base is None:
        return (
            f"{given}; how many of them it teaches any model is not known, since the {base} was not "
            f"attacked: {advice(spec.headline_setting)}."
        )
    told = {
        "less": "less than it teaches",
        "more": "more than it teaches",
        "none": "not told apart from what it teaches",
        "unpaired": "beside what it teaches",
    }[relearnt.verdict]
    rests = ""
    if relearnt.interval:
        bounds = interval_text(relearnt.interval)
        rests = f" (paired 95 % interval {bounds}; {relearnt.discordant} of {relearnt.n} images differ)"
    return (
        f"{given}, {told} the {base}, which has unlearned nothing ({number_text(relearnt.by_base)} points): "
        f"excess {signed_text(relearnt.excess)}{rests}."
    )


def _attack(spec: ReportSpec) -> SettingSpec:
    return spec.setting(spec.headline_setting) or SettingSpec(spec.headline_setting, spec.headline_setting)


def _gaps(inputs: Inputs, spec: ReportSpec) -> Iterator[Gap]:
    """Recall and length before the attack, where both runs have them."""
    for measure, unit, bound in ((RECALL, "points", spec.equal_recall), (WORDS, "words", spec.equal_words)):
        ours, baseline = (
            measured(inputs, run, "origin", measure).number for run in (spec.ours, spec.baseline)
        )
        if ours is not None and baseline is not None:
            yield Gap(measure, unit, ours, baseline, bound)


def _before(inputs: Inputs, spec: ReportSpec) -> str:
    """CHAIR_S before the attack, and at which recall."""
    sides = []
    for run in (spec.ours, spec.baseline):
        chair_s, recall = (measured(inputs, run, "origin", measure).number for measure in (CHAIR_S, RECALL))
        if chair_s is None or recall is None:
            return ""
        sides.append(f"{number_text(chair_s)} at recall {number_text(recall)}")
    return f"; before the attack {' against '.join(sides)}"


def _equality(inputs: Inputs, spec: ReportSpec) -> str:
    """Whether recall and length before the attack are equal within the bounds."""
    parts = [
        f"{gap.label} {number_text(gap.ours)} against {number_text(gap.baseline)}, "
        f"{'equal' if gap.size <= gap.bound else 'not equal'} within {number_text(gap.bound)} {gap.unit}"
        for gap in _gaps(inputs, spec)
    ]
    return f"Before the attack: {'; '.join(parts)}." if parts else ""


def _after(inputs: Inputs, spec: ReportSpec) -> str:
    """Whether the two runs name equally many of the objects that are there after the attack."""
    recall = contrast(inputs, spec, spec.ours, spec.baseline, spec.headline_setting, RECALL)
    if recall is None:
        return ""
    ours = spec.label(spec.ours)
    claim = {
        "worse": f"{ours} names fewer of the objects that are in the picture",
        "better": f"{ours} names more of the objects that are in the picture",
        "none": "no difference can be told in how many of the objects in the picture they name",
    }[recall.verdict]
    return f"After it, {claim}: {numbers_of(recall, RECALL)}."
