"""A sentencepiece `tokenizer.model` of LLaMA's kind as a `tokenizers.Tokenizer` that gives the same ids."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

from sare_jax.errors import UserError

# What the conversion relies on, as (part of the file, field, value): the settings of LLaMA's tokenizer.
_NEEDED = (
    ("trainer_spec", "model_type", 2),  # BPE
    ("trainer_spec", "treat_whitespace_as_suffix", False),
    ("normalizer_spec", "add_dummy_prefix", True),
    ("normalizer_spec", "remove_extra_whitespaces", False),
    ("normalizer_spec", "escape_whitespaces", True),
    ("normalizer_spec", "precompiled_charsmap", b""),
)
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # ModelProto.SentencePiece.Type


def read_sentencepiece(path: Path) -> tuple[Tokenizer, int, int, int]:
    """Converts a sentencepiece BPE model.

    Sentencepiece joins the two neighbours whose union is the piece of the highest score, the leftmost on a
    tie; `tokenizers` follows a list of pairs. The list has every way to split a piece in two, best piece
    first. Every text that is encoded on its own starts with `▁`, and so does, in `tokenizers`, every part of
    a text between added tokens.

    Args:
      path: a `tokenizer.model` file.

    Returns:
      The tokenizer, without any added token, and the ids of BOS, EOS and the unknown piece.

    Raises:
      UserError: no such file, not a sentencepiece model, or one with settings unlike LLaMA's.
    """
    model = _parse(path)
    for part, field, needed in _NEEDED:
        if (value := getattr(getattr(model, part), field)) != needed:
            raise UserError(
                f"{path}: {part}.{field} is {value!r:.60}, only {needed!r} (LLaMA's) can be read; put the "
                "model's tokenizer.json beside it"
            )
    kinds = {piece.type for piece in model.pieces}
    if kinds - {_NORMAL, _UNKNOWN, _CONTROL, _BYTE}:
        raise UserError(f"{path}: has pieces of kinds unlike LLaMA's; put a tokenizer.json beside it")
    vocab = {piece.piece: number for number, piece in enumerate(model.pieces)}
    if len(vocab) < len(model.pieces) or not all(isinstance(piece, str) for piece in vocab):
        raise UserError(f"{path}: damaged, a piece stands twice or is no text; fetch the file again")
    unknown = next(piece.piece for piece in model.pieces if piece.type == _UNKNOWN)
    controls = {piece.piece for piece in model.pieces if piece.type == _CONTROL}
    for field in ("bos_piece", "eos_piece"):
        if (name := getattr(model.trainer_spec, field)) not in controls:
            raise UserError(f"{path}: {field} is {name!r}, which is no control piece of the model")
    bpe = models.BPE(
        vocab=vocab,
        merges=_merges({piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=_BYTE in kinds,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    spec = model.trainer_spec
    return tokenizer, vocab[spec.bos_piece], vocab[spec.eos_piece], vocab[unknown]


def _parse(path: Path):
    # Only models without a tokenizer.json need the two packages.
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    generated: Any = sentencepiece_model_pb2  # protobuf makes its classes when it is imported

    try:
        model = generated.ModelProto.FromString(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except DecodeError as error:
        raise UserError(f"{path}: not a sentencepiece model ({error}); fetch the file again") from None
    if _UNKNOWN not in {piece.type for piece in model.pieces}:  # any file of zeros and the like gets here
        raise UserError(f"{path}: a sentencepiece model without its unknown piece; fetch the file again")
    return model


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Pairs of pieces whose union is a piece, the best union first.

    Splits of one union could compete only where two of them overlap, and neighbours are joined from the left
    in both: their order among themselves decided no text that was tried.
    """
    ranked = sorted((piece for piece in scores if len(piece) > 1), key=lambda piece: -scores[piece])
    return [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
