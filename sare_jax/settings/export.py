"""Settings of the export."""

from dataclasses import dataclass

from sare_jax.settings.building import at_least


@dataclass(frozen=True)
class ExportConfig:
    """Which run is written as a Hugging Face folder (stage 6), and how many captions are compared."""

    run: str = "sare"
    """Name of the unlearning run whose weights are written."""
    form: str = "folder"
    """A form of the model's family, or `module:name`. Of LLaVA's, `folder` is a whole model, `projector` the
    tuned tensors as safetensors, `efuf` the same as a torch state dict. `peft` is for weights that the LoRA
    attack has made, which `python -m sare_jax.export` reads."""
    check_captions: int = 0
    """Images on which transformers has to give the same captions, for forms that are whole models; 0 skips
    the check."""

    def check(self, where: str) -> None:
        """Refuses a number below 0."""
        at_least(self.check_captions, 0, f"{where}.check_captions")
