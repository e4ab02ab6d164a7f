"""Where a scoring model's files are; needs no torch until a published model is asked for."""

from pathlib import Path

from sare_jax import online, shipped
from sare_jax.errors import UserError

LOCAL = "local-dir:"
HUB = "hf-hub:"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def resolve(model: str) -> str:
    """The name as open_clip takes it; a folder is refused where it lacks the model's files.

    Raises:
      UserError: names the folder, what it lacks and how to get it.
    """
    if model.startswith(HUB):
        return model
    folder = shipped.located(model.removeprefix(LOCAL))
    if not (model.startswith(LOCAL) or folder.is_dir() or folder.is_absolute() or len(folder.parts) > 2):
        return model
    lacking = [] if list(folder.glob("*.safetensors")) + list(folder.glob("*.bin")) else ["*.safetensors"]
    if not (folder / "open_clip_config.json").is_file():
        lacking.insert(0, "open_clip_config.json")
    if lacking:
        raise UserError(
            f"{folder}: no open_clip model there (looked for {' and '.join(lacking)}); "
            f"get one with: hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K --local-dir {folder}"
        )
    return f"{LOCAL}{folder}"


def require(model: str, pretrained: str) -> None:
    """Looks for a scoring model's files, and fetches those of a published one where that can be done.

    Args:
      model: as `curate.clip`.
      pretrained: as `curate.clip_pretrained`.

    Raises:
      UserError: they are neither here nor to be had from here; names the way to get them.
    """
    name = resolve(model)
    if name.startswith(LOCAL) or Path(pretrained).is_file():
        return
    repository = name.removeprefix(HUB) if name.startswith(HUB) else _published(name, pretrained)
    if any(online.cached_on_hub(repository, file) for file in _WEIGHTS):
        return
    if online.hub_answers():
        online.fetch(repository, ["*.json", "*.txt", _WEIGHTS[0]])
        return
    raise UserError(
        f"curate.clip: {model} is not here, and the hub does not answer; get it with: hf download "
        f"{repository} --local-dir FOLDER; then set --config.curate.clip=local-dir:FOLDER"
    )


def _published(name: str, pretrained: str) -> str:
    """The hub's repository of one of open_clip's own models."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name) if name in open_clip.list_models() else []
    if not tags:
        raise UserError(
            f"curate.clip: open_clip knows no model {name!r}; python -c 'import open_clip; "
            "print(open_clip.list_models())' lists them, a folder is given as local-dir:FOLDER"
        )
    if pretrained not in tags:
        raise UserError(f"curate.clip_pretrained: {pretrained!r} is not one of {', '.join(tags)}, nor a file")
    return open_clip.get_pretrained_cfg(name, pretrained).get("hf_hub", "").rstrip("/") or name
