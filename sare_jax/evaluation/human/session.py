"""One blind session: captions of every run and setting, shuffled, so that nobody can tell whose they are."""

from collections.abc import Mapping, Sequence

from sare_jax.evaluation.human.audit import sample
from sare_jax.files import hash_value
from sare_jax.records.texts import Dropped

SESSION, KEY = "session.jsonl", "key.jsonl"


def draw(
    answers: Mapping[tuple[str, str], Sequence[dict]], size: int, seed: int
) -> tuple[list[dict], list[dict]]:
    """Draws the captions that people mark, and notes where they are from.

    Every run and setting is audited on the same images (`audit.sample`). A caption that several of them gave
    word for word stands in the session once. The order follows from a hash of the seed and the caption, so
    that the first half of a session is a fair sample of it, too.

    Args:
      answers: (run, setting) → records with `image_id`, `image` and `text`, one an image.
      size: captions of each run and setting; 0 takes all.
      seed: decides which images are drawn, and the order.

    Returns:
      The session, records of `image` and `caption`; and its key, in the same order: `image`, `caption` and
      `rows`, the (run, setting) that gave the caption.

    Raises:
      UserError: a run and setting without captions.
    """
    rows: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row, records in answers.items():
        names = {record["image_id"]: record["image"] for record in records}
        for item in sample(records, size, seed, Dropped()):
            rows.setdefault((names[item.image], item.caption), []).append(row)
    order = sorted(rows, key=lambda caption: hash_value([seed, *caption]))
    session = [{"image": image, "caption": text} for image, text in order]
    key = [{"image": image, "caption": text, "rows": list(rows[image, text])} for image, text in order]
    return session, key
