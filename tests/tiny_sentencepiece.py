"""A small sentencepiece model of LLaMA's kind: BPE, bytes as the fallback, `▁` before every text."""

import io
from pathlib import Path

import sentencepiece

LINES = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "USER: Please describe the image in great detail. ASSISTANT: A photo of a dog on a bench.",
    "There is a man riding a bicycle on the street, and two dogs are sitting beside him.",
    "Is there a cat in the image? Please answer yes or no. The kitchen has a table and chairs.",
    "bananas    and  ananas   aaaaaaa hahahaha lalala 1234",
]


def write_sentencepiece(
    path: Path, lines: list[str] = LINES, **settings
) -> sentencepiece.SentencePieceProcessor:
    """Trains a model on lines and writes it; `settings` go to the trainer. Returns what reads it."""
    written = io.BytesIO()
    llama = {
        "model_type": "bpe",
        "vocab_size": 460,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20), model_writer=written, minloglevel=2, **llama | settings
    )
    path.write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
