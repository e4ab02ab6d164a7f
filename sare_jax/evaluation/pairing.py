"""Joins answers to their questions by question id or, where the answers have none, by their order."""

from collections.abc import Sequence
from typing import Any

from sare_jax.errors import UserError
from sare_jax.records.texts import Dropped

IDS = ("question_id", "id", "questionId")


def key_of(record: dict) -> str | None:
    """A question's id as text ("7", 7 and 7.0 are one); None where the record has none that could be one."""
    value = next((record[name] for name in IDS if record.get(name) is not None), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    usable = isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip()
    return str(value) if usable else None


def texts_of(
    questions: Sequence[dict], answers: Sequence[dict], dropped: Dropped, keys: Sequence[str]
) -> dict[str, str]:
    """The text of the answer to each question, by question id.

    The same answer to one question twice counts once; two different ones are an error, since
    taking one of them would go unnoticed.

    Args:
      questions: records with an id under one of `IDS`.
      answers: records with the question's id and the answer's text; records without ids are taken in the
        order of the questions, must be as many, and may not name another question.
      dropped: gets what cannot be used, by reason: `answer is no text`, `repeated`.
      keys: keys under which the text may stand; the first that a record has counts.

    Returns:
      Texts by question id; unanswered questions are absent.

    Raises:
      UserError: two answers to a question, answers to none, or ids that are missing; names them.
    """
    texts: dict[str, str] = {}
    clashing = []
    for key, answer in keyed(questions, answers):
        text = next((answer[name] for name in keys if name in answer), None)
        if not isinstance(text, str):
            dropped.add("answer is no text", key)
        elif key not in texts:
            texts[key] = text
        elif texts[key] == text:
            dropped.add("repeated", key)
        else:
            clashing.append(key)
    if clashing:
        raise UserError(f"more than one answer to question(s) {_some(clashing)}; keep one each")
    return texts


def keyed(questions: Sequence[dict], answers: Sequence[dict]) -> list[tuple[str, dict]]:
    """Each answer with the id of its question; see `texts_of` for what is refused."""
    asked = [str(key_of(question)) for question in questions]
    ids = [key_of(answer) for answer in answers]
    if all(key is None for key in ids):
        if len(answers) != len(asked):
            raise UserError(
                f"{len(answers)} answers without question_id for {len(asked)} questions; add the ids"
            )
        for place, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            named = answer.get("question")
            if named is not None and _plain(named) != _plain(question.get("question", question.get("text"))):
                raise UserError(
                    f"answer {place} is to {str(named)[:60]!r}, another question than number {place}"
                )
        return list(zip(asked, answers, strict=True))
    if None in ids:
        raise UserError(f"answer {ids.index(None) + 1} has no question_id, though others have one")
    keys, known = list(map(str, ids)), set(asked)
    if strangers := sorted({key for key in keys if key not in known}):
        raise UserError(f"answers to {len(strangers)} question(s) not in the list: {_some(strangers)}")
    return list(zip(keys, answers, strict=True))


def _plain(text: Any) -> str:
    return str(text).strip().casefold()


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "")
