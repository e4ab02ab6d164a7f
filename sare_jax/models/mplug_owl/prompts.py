"""mPLUG-Owl's prompt: pieces of text, each tokenised by itself, around the image and before the answer."""

import dataclasses

from sare_jax.errors import UserError
from sare_jax.models.mplug_owl.source import OwlSource
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.piece_prompter import PiecePrompter, PromptForm
from sare_jax.models.shared.pieces import PieceTokenizer

_ANSWERING = PromptForm(
    image="<image>",
    before="The following is a conversation between a curious human and AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\nHuman: ",
    between="\nHuman: ",
    after="\nAI: ",
    again="\nHuman: ",
)
# Values of `model.template`. The published model answers with no borders besides the image and the answer; in
# its training data each of the role names is a piece of its own.
FORMS = {"": _ANSWERING, "owl_roles_apart": dataclasses.replace(_ANSWERING, borders="(AI: |\nHuman: )")}


def prompter_of(source: OwlSource, template: str = "") -> PiecePrompter:
    """Reads tokenizer.model.

    Args:
      source: the base model, whose folder holds tokenizer.model.
      template: empty, or `owl_roles_apart` as in the published training.

    Raises:
      UserError: there is no such template; or as in `PieceTokenizer.read`.
    """
    if template not in FORMS:
        known = " or ".join(map(repr, FORMS))
        raise UserError(f"config.model.template: is {template!r}, need {known} for an mPLUG-Owl")
    config = source.config
    pieces = PieceTokenizer.read(source.folder, config.text.vocab_size)
    return PiecePrompter(pieces, FORMS[template], config.image_token_id, AnswerEnd((pieces.eos_id,)))
