"""MiniGPT-4's two prompt forms (protocols 7.4): each text around the image, and the answer, by itself."""

from sare_jax.models.minigpt4.source import MiniGpt4Source
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.piece_prompter import PiecePrompter, PromptForm
from sare_jax.models.shared.pieces import PieceTokenizer

LONGEST = 160  # tokens of a target, its end included: `max_txt_len` of both published forms
IMAGE = "<ImageHere>"
LLAMA_2 = PromptForm(IMAGE, "[INST] <Img>", "</Img> ", " [/INST]", "[INST] ")
VICUNA = PromptForm(IMAGE, "###Human: <Img>", "</Img> ", " ###Assistant: ", "Human: ", end="###")


def prompter_of(source: MiniGpt4Source) -> PiecePrompter:
    """Reads the tokenizer.model of a base model's LLaMA; errors as in `PieceTokenizer.read`."""
    config = source.config
    pieces = PieceTokenizer.read(source.folder, config.text.vocab_size)
    form = VICUNA if config.qformer else LLAMA_2
    return PiecePrompter(pieces, form, config.image_token_id, _answer_end(pieces, form.end))


def _answer_end(pieces: PieceTokenizer, end: str) -> AnswerEnd:
    """The end token, or the tokens of a text right behind a word."""
    if not end:
        return AnswerEnd((pieces.eos_id,), longest=LONGEST)
    word = pieces.encode(["a"])
    return AnswerEnd(tuple(pieces.encode([f"a{end}"])[len(word) :]), (end,), LONGEST)
