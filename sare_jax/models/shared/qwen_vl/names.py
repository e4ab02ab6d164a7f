"""The lines of a name table for a Qwen's decoder."""

from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.llama_names import llama_entries

VECTOR, AS_IS, SWAP = (0,), (0, 1), (1, 0)
PATCH_AXES = (2, 1, 3, 4, 0)  # [D, C, T, P, P] -> [T, C, P, P, D]
TOWER, TEXT = "model.visual.", "model.language_model."
HEAD, EMBEDDING = "lm_head.weight", f"{TEXT}embed_tokens.weight"


def text_entries(config: TextConfig, on_heads: dict[str, str]) -> list[Entry]:
    """Embedding table, decoder and head under the names of transformers 5.

    Args:
      config: shapes of the language model.
      on_heads: path of a parameter behind the products, below a layer -> its name below a layer.
    """
    table = [_renamed(entry) for entry in llama_entries(config, "")]
    for path, name in on_heads.items():
        table.append(
            Entry(f"language_model/layers/{path}", f"{TEXT}layers.{{}}.{name}", VECTOR, config.num_layers)
        )
    return table


def norm(path: str, name: str, layers: int = 0) -> list[Entry]:
    """A LayerNorm."""
    return [
        Entry(f"{path}/scale", f"{name}.weight", VECTOR, layers),
        Entry(f"{path}/bias", f"{name}.bias", VECTOR, layers),
    ]


def linear(path: str, name: str, layers: int = 0) -> list[Entry]:
    """A linear layer with a bias."""
    return [
        Entry(f"{path}/kernel", f"{name}.weight", SWAP, layers),
        Entry(f"{path}/bias", f"{name}.bias", VECTOR, layers),
    ]


def _renamed(entry: Entry) -> Entry:
    name = entry.name.replace("model.", TEXT, 1) if entry.name.startswith("model.") else entry.name
    return Entry(entry.path, name, entry.axes, entry.layers)
