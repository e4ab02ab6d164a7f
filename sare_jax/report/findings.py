"""Sentences about the numbers, made by rule: no sentence is written for a particular outcome of a run."""

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.contrasts import Contrast, contrast, measured, restored
from sare_jax.report.finding import Finding
from sare_jax.report.measures import price_in
from sare_jax.report.read import Inputs, trained
from sare_jax.report.spec import ReportSpec, SettingSpec
from sare_jax.report.tables import interval_text, number_text, signed_text

# The attack is tuned on validation images until it gives back at least this share of the baseline's
# erasure; below it robustness is hardly tested.
NEEDED_RESTORATION = 0.5


def findings(inputs: Inputs, spec: ReportSpec) -> list[Finding]:
    """The sentences below the headline: attack strength, comparisons under each setting, and the price."""
    headline_setting = spec.setting(spec.headline_setting)
    items = [_attack_strength(inputs, spec)]
    for setting in spec.settings:
        if setting is not headline_setting and not setting.samples:
            items.append(versus(inputs, spec, spec.ours, spec.baseline, setting))
    if headline_setting:
        for without, with_rho in spec.pairs:
            items.append(versus(inputs, spec, with_rho, without, headline_setting))
    items.append(_price(inputs, spec))
    return [item for item in items if item is not None]


def _attack_strength(inputs: Inputs, spec: ReportSpec) -> Finding | None:
    """Whether the attack moves the baseline enough for robustness to mean something."""
    name = spec.label(spec.baseline)
    base, origin = (measured(inputs, run, "origin", CHAIR_S).number for run in (spec.base, spec.baseline))
    if base is None or origin is None:
        return None
    captions = (inputs.result(spec.baseline, "origin") or {})["n"]
    rests = f"point estimates from {captions} captions each"
    if base <= origin:
        numbers = f"CHAIR_S {number_text(base)} before, {number_text(origin)} after; {rests}"
        return Finding(
            f"{name} erased nothing, so there is nothing for an attack to bring back", numbers, "note"
        )
    share = restored(inputs, spec, spec.baseline, spec.headline_setting)
    setting = spec.setting(spec.headline_setting)
    after = measured(inputs, spec.baseline, spec.headline_setting, CHAIR_S).number
    if share is None or setting is None or after is None:
        return None
    weak = "so it tests robustness only weakly"
    if share >= NEEDED_RESTORATION:
        amount = f"{_percent(share)} of what {name} had erased, at least the half that was asked of it"
    elif share > 0:
        amount = (
            f"{_percent(share)} of what {name} had erased, less than the half that was asked of it, {weak}"
        )
    else:
        amount = f"nothing of what {name} had erased, {weak}"
    numbers = " → ".join(map(number_text, (base, origin, after)))
    claim = f"The attack ({setting.label}) gives back {amount}"
    return Finding(claim, f"CHAIR_S {numbers} for base, unlearned, attacked; {rests}", "note")


def _percent(share: float) -> str:
    return f"{number_text(100 * share, 0)} %"


def versus(inputs: Inputs, spec: ReportSpec, a: str, b: str, setting: SettingSpec) -> Finding | None:
    """Run a against run b in CHAIR_S under one setting; None where they were not both measured."""
    change = contrast(inputs, spec, a, b, setting.key, CHAIR_S)
    if change is None:
        return None
    first, second = spec.label(a), spec.label(b)
    claim = {
        "better": f"{first} hallucinates in fewer captions than {second}",
        "worse": f"{first} hallucinates in more captions than {second}",
        "none": f"no difference between {first} and {second} can be told",
    }[change.verdict]
    return Finding(f"{when(setting)}, {claim}", numbers_of(change, CHAIR_S), change.verdict)


def _price(inputs: Inputs, spec: ReportSpec) -> Finding | None:
    """Names the runs that lost what an erasure may cost against the base model, before any attack."""
    losses = []
    prices = [measure for measure in price_in(spec) if measure.better]
    compared: dict[str, int] = {}  # name of a measure → most images of a comparison
    for run in trained(spec):
        for measure in prices:
            change = contrast(inputs, spec, run.key, spec.base, "origin", measure)
            name = within(measure.label)
            if change:
                compared[name] = max(compared.get(name, 0), change.n)
            if change and change.verdict == "worse":
                differ = f"; {change.discordant} of {change.n} images differ" if change.interval else ""
                numbers = f"{number_text(change.a.number)} (base {number_text(change.b.number)}{differ})"
                losses.append(f"{run.label} {name} {numbers}")
    if losses:
        return Finding("Before any attack, unlearning cost grounding", "; ".join(losses), "note")
    if not compared:
        return None
    names = " or ".join(compared)
    images = max(compared.values())
    numbers = f"paired over {images} images" if images else ""
    return Finding(f"Before any attack, no run lost {names} beyond the intervals", numbers, "note")


def within(label: str) -> str:
    """A label in the middle of a sentence: "recall", but "POPE F1"."""
    return label[0].lower() + label[1:] if label[1:2].islower() else label


def numbers_of(difference: Contrast, measure: Measure) -> str:
    """The two values of a contrast, their difference, and its interval or the reason why there is none."""
    a, b = (number_text(side.number, measure.digits) for side in (difference.a, difference.b))
    text = f"{measure.label} {a} against {b}, difference {signed_text(difference.difference, measure.digits)}"
    if difference.interval:
        bounds = interval_text(difference.interval, measure.digits)
        return (
            f"{text} (paired 95 % interval {bounds}; {difference.discordant} of {difference.n} images differ)"
        )
    if difference.a.interval and difference.b.interval:
        relation = "overlap" if difference.verdict == "none" else "do not overlap"
        return f"{text} (their 95 % intervals {relation}; not paired)"
    return f"{text} (no intervals were computed)"


def when(setting: SettingSpec) -> str:
    """The condition as the beginning of a sentence."""
    if setting.samples:
        return f"After relearning with {setting.samples} samples"
    article = "the " if setting.label.endswith("prompt") else ""
    return "Straight after unlearning" if setting.samples == 0 else f"Under {article}{setting.label}"
