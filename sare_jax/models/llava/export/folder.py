"""A whole LLaVA with tuned parameters, as a folder that transformers loads."""

from pathlib import Path

from sare_jax.export.folder import Tuned, copy_others, updated, write_folder
from sare_jax.export.shards import Shard, cut
from sare_jax.models.interface import Source
from sare_jax.models.llava.export import hub_form
from sare_jax.models.llava.names import EMBEDDING, HEAD, is_buffer
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.partition import Tree


def export_folder(source: LlavaSource, params: Tree, folder: Path) -> None:
    """Writes the whole model with tuned parameters, for transformers to load.

    A base in the hub's form keeps its names, files and shards; torch files become safetensors. A base in the
    original form (LLaVA's own, ShareGPT4V) becomes a folder of the hub's form, see `hub_form`. In either case
    `from_pretrained` casts to the dtype asked for.

    Args:
      source: the base model.
      params: nested dictionary of the tuned parameters.
      folder: the new folder. It appears when it is whole, and replaces an earlier export.

    Raises:
      UserError: as `write_folder`.
    """
    if source.form == "hub":

        def others(draft: Path) -> None:
            copy_others(source.folder, draft)
            hub_form.complete_processor(source, draft)

        write_folder(source, params, folder, others=others)
        return
    write_folder(
        source,
        params,
        folder,
        others=lambda draft: hub_form.write_files(source, draft),
        apart=(source.tower,) if source.tower else (),
        plan=_hub_plan,
    )


def _hub_plan(source: Source, tuned: Tuned) -> list[Shard]:
    """The tensors of a base in the original form under the hub's names, with rows for the two new tokens."""
    kept = {name: tensor for name, tensor in source.tensors.items() if not is_buffer(name)}
    num_rows = hub_form.num_rows(source.config)
    outputs = {name: updated(name, tensor, tuned.get(name)) for name, tensor in kept.items()}
    for name in (EMBEDDING, HEAD):
        if name in outputs:
            outputs[name] = hub_form.padded(outputs[name], num_rows)
    return cut(list(outputs.values()))
