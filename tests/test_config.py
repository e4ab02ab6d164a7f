"""Settings from a plain dictionary: kinds, shared values, renamed keys, ranges, and what is said of each."""

import dataclasses
import importlib
import json
import typing

import pytest

from sare_jax.attacks import ATTACKS, Attack, attack_of
from sare_jax.attacks.prompt import Prompt
from sare_jax.attacks.relearn import Relearn
from sare_jax.config import SECTIONS, parse, parse_saved, to_dict
from sare_jax.configs import llava_sare
from sare_jax.errors import UserError
from sare_jax.settings import GREEDY, AttackConfig, AuditThresholds, CurateConfig
from sare_jax.settings.building import NOT_AUTO, has_kinds, kinds_of, merged
from sare_jax.settings.documentation import meanings

BASE = {"name": "test", "stages": "caption", "model": {"folder": "somewhere"}}


def decoding(**values):
    return parse(BASE | {"decoding": values}).decoding


def test_ge_07_greedy_where_nothing_is_said():
    assert parse(BASE).decoding == GREEDY
    assert (GREEDY.num_beams, GREEDY.temperature, GREEDY.stop) == (1, 0.0, ())


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": -1.0}, "temperature"),
        ({"num_beams": 5, "temperature": 1.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"early_stopping": "maybe"}, "early_stopping"),
        ({"cache": "int4"}, "cache"),
        ({"stop": ("###", "")}, "stop"),
    ],
)
def test_decoding_that_makes_no_sense_is_refused_by_its_key(values, key):
    with pytest.raises(UserError, match=rf"^config\.decoding\.{key}: "):
        decoding(**values)


def test_beams_and_stop_strings_are_taken_over():
    made = decoding(num_beams=5, length_penalty=-2, early_stopping="never", stop=("###",))
    assert (made.num_beams, made.length_penalty, made.stop) == (5, -2.0, ("###",))


def curate(**values):
    return parse(BASE | {"curate": values}).curate


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch": 0}, r"curate\.patch: must be at least 1, got 0"),
        ({"workers": 0}, r"curate\.workers: must be at least 1, got 0"),
        ({"llm_model": "m"}, r"curate\.llm_model: has no effect without config\.curate\.llm"),
        ({"thresholds": {"t1": 33.0}}, r"curate\.thresholds\.t1: 33\.0 lies above t0 = 32\.0"),
        ({"thresholds": {"kind": "quantile", "q2": 1.5}}, r"thresholds\.q2: a quantile lies between 0 and 1"),
        ({"thresholds": {"kind": "quantile", "q1": 0.6}}, r"thresholds\.q1: 0\.6 lies above q0 = 0\.5"),
        (
            {"thresholds": {"kind": "audit", "p0": 95}},
            r"thresholds\.p0: a precision lies between 0 and 1, got 95",
        ),
        ({"thresholds": {"kind": "audit", "objects": 0}}, r"thresholds\.objects: must be at least 1"),
        ({"thresholds": {"kind": "audit", "t0": 1.0}}, r"thresholds\.t0: belongs to kind fixed"),
        ({"thresholds": {"kind": "audit", "sede": 1}}, r"thresholds\.sede: unknown key; did you mean seed"),
        ({"thresholds": "quantile"}, r"curate\.thresholds: expected a section of keys, got 'quantile'"),
        ({"efuf": "f", "thresholds": {"kind": "audit"}}, r"thresholds\.kind: must be fixed: EFUF"),
        ({"t0": 30.0}, r"curate\.t0: is called config\.curate\.thresholds\.t0 now"),
        ({"audit_labels": "f"}, r"curate\.audit_labels: is called config\.curate\.thresholds\.labels now"),
    ],
)
def test_curation_that_makes_no_sense_is_refused_by_its_key(values, message):
    with pytest.raises(UserError, match=rf"^config\.{message}" if message.startswith("cur") else message):
        curate(**values)


def test_keys_that_nobody_set_are_those_of_no_kind():
    values = {"kind": "audit", "p1": 0.7, "t0": None, "q1": None}
    assert curate(thresholds=values).thresholds == AuditThresholds(p1=0.7)


def test_sections_are_merged_key_by_key():
    shared = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merged(shared, {"b": {"d": 4}, "e": {}}) == {"a": 1, "b": {"c": 2, "d": 4}, "e": {}}
    assert shared == {"a": 1, "b": {"c": 2, "d": 3}}


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Settings of an attack from outside of the package."""

    share: float = 0.5


PRUNE = Attack(settings=Pruning, weights=lambda tools, params, settings: params)


def attacks(shared, named):
    return parse(BASE | {"attack": shared, "attacks": named})


SIZES = ("caption.batch_size", "evaluate.batch_size", "evaluate.question_batch_size", "optim.micro_batches")


@pytest.mark.parametrize("key", SIZES)
def test_a_size_on_which_no_result_depends_may_be_auto(key):
    section, name = key.split(".")
    assert getattr(getattr(parse(BASE | {section: {name: "auto"}}), section), name) == "auto"
    for wrong in ("many", 2.5, True, None):
        with pytest.raises(UserError, match=rf"^config\.{key}: expected a number or auto, got {wrong!r}"):
            parse(BASE | {section: {name: wrong}})
    with pytest.raises(UserError, match=rf"^config\.{key}: must be at least 1, got 0"):
        parse(BASE | {section: {name: 0}})
    assert key in NOT_AUTO


@pytest.mark.parametrize("key", ["optim.batch_size", "attack.batch_size", "caption.max_new_tokens"])
def test_a_size_on_which_results_depend_is_never_auto(key):
    section, name = key.split(".")
    with pytest.raises(UserError, match=rf"^config\.{section}.*{name}: must be a number: auto is"):
        parse(BASE | {"attacks": {"a": {}}} | {section: {name: "auto"}})


def test_a_config_file_holds_sizes_as_numbers_or_auto():
    config = llava_sare.get_config("robust")
    for section in (config.caption, config.evaluate):
        section.batch_size = "auto"
        section.batch_size = 8
        with pytest.raises(TypeError):
            section.batch_size = 2.5
    config.runs.robust.micro_batches = "auto"
    parsed = parse(config.to_dict())
    assert (parsed.caption.batch_size, parsed.runs["robust"].micro_batches) == (8, "auto")
    assert parse_saved(json.loads(json.dumps(to_dict(parsed)))) == parsed


def test_an_attack_has_the_keys_of_its_kind():
    config = attacks({"seed": 3, "prompt": None}, {"a": {"num_samples": 7}, "b": {"kind": "prompt"}})
    assert config.attacks["a"] == AttackConfig(settings=Relearn(num_samples=7, seed=3))
    assert config.attacks["b"] == AttackConfig(kind="prompt", settings=Prompt())
    written = to_dict(config)["attacks"]["a"]
    assert written == {"kind": "relearn", "runs": ""} | dataclasses.asdict(Relearn(num_samples=7, seed=3))


def test_an_attack_from_outside_is_named_by_its_module():
    kind = f"{__name__}:PRUNE"
    config = attacks({"seed": 3}, {"a": {}, "b": {"kind": kind, "share": 0.2}, "c": {"kind": kind}})
    assert config.attacks["b"].settings == Pruning(0.2)
    assert attacks({"share": 0.3}, {"c": {"kind": kind}}).attacks["c"].settings == Pruning(0.3)
    with pytest.raises(UserError, match=r"^config\.attacks\.b\.seed: unknown key; known keys: share"):
        attacks({}, {"b": {"kind": kind, "seed": 1}})


@pytest.mark.parametrize(
    ("shared", "named", "message"),
    [
        ({}, {"a": {"num_samples": -1}}, r"attacks\.a\.num_samples: must be at least 0"),
        ({}, {"a": {"kind": "prompt", "num_samples": 7}}, r"attacks\.a\.num_samples: unknown key"),
        ({}, {"a": {"kind": "relern"}}, r"attacks\.a\.kind: 'relern' is not known; did you mean relearn"),
        ({}, {"a": {"kind": "no.such:ATTACK"}}, r"attacks\.a\.kind: 'no\.such:ATTACK' cannot be imported"),
        ({}, {"a": {"runs": "nobody"}}, r"attacks\.a\.runs: no run is called 'nobody'"),
        ({}, {"a": {"kind": "prompt", "prompt": " "}}, r"attacks\.a\.prompt: empty"),
        ({"sede": 1}, {"a": {}}, r"attack\.sede: unknown key; did you mean seed"),
        ({"seed": 1}, {"a": {"kind": "prompt"}}, r"attack\.seed: unknown key"),
    ],
)
def test_attacks_that_make_no_sense_are_refused_by_their_key(shared, named, message):
    with pytest.raises(UserError, match=rf"^config\.{message}"):
        attacks(shared, named)


def test_a_comparison_of_checkpoints_needs_its_attack():
    with pytest.raises(UserError, match=r"config\.report\.matched_attack: no attack is called 'relearn_9'"):
        parse(BASE | {"report": {"matched": True, "matched_attack": "relearn_9"}})


def all_kinds(hint: typing.Any) -> list[type]:
    """A settings dataclass with those of its sections."""
    if has_kinds(hint):
        return [kind for member in kinds_of(hint).values() for kind in all_kinds(member)]
    if not dataclasses.is_dataclass(hint):
        return []
    return [hint, *(kind for inner in typing.get_type_hints(hint).values() for kind in all_kinds(inner))]


NOT_YET = ("model", "report")
KINDS = [kind for name, section in SECTIONS.items() if name not in NOT_YET for kind in all_kinds(section)]
KINDS.append(AttackConfig)
KINDS += [kind for name in ATTACKS for kind in all_kinds(attack_of(name, "").settings)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_documented_beside_its_line(kind):
    assert [name for name, meaning in meanings(kind).items() if len(meaning.split()) < 3] == []


def test_a_meaning_is_the_string_below_or_the_comment_above():
    @dataclasses.dataclass(frozen=True)
    class Example:
        first: int = 1
        """The first,
        in two lines."""
        #: The second,
        #: in two lines.
        second: int = 2
        third: int = 3

    assert meanings(Example) == {
        "first": "The first, in two lines.",
        "second": "The second, in two lines.",
        "third": "",
    }
    assert meanings(CurateConfig)["patch"] == "Side of a patch in pixels, in mode `windows`."


@pytest.mark.parametrize("name", ["demo_sare", "demo_attacks", "demo_frontier", "llava_sare"])
def test_saved_settings_are_read_back(name):
    config = parse(importlib.import_module(f"sare_jax.configs.{name}").get_config().to_dict())
    assert parse_saved(json.loads(json.dumps(to_dict(config)))) == config
