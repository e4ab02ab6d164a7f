"""The word tokenizer of the demo's CLIP: one token a word, as a Hugging Face tokenizer folder."""

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.scenes import KINDS

_WORDS = "a an the of and or with in on at to near next photo picture view containing showing is are there ."


def write_tokenizer(folder: Path, *, context: int) -> int:
    """Writes a tokenizer that knows the world's words; others become one unknown token.

    The end token has the highest id, where CLIP's text tower looks for it (argmax pooling).

    Args:
      folder: existing folder for tokenizer.json and tokenizer_config.json.
      context: the most tokens of a text.

    Returns:
      The number of entries in the vocabulary.
    """
    names = [*CATEGORIES, *KINDS, *(kind.place for kind in KINDS.values())]
    colours = [colour for category in CATEGORIES.values() for colour in category.colours]
    words = sorted({word for text in (*names, *colours, _WORDS) for word in text.split()})
    tokens = ["<pad>", "<unk>", "<start>", *words, "<end>"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", len(tokens) - 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=context,
    ).save_pretrained(folder)
    return len(tokens)
