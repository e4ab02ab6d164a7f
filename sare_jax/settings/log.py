"""Settings of the sinks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogConfig:
    """Where training curves and metrics go besides the workdir's files."""

    sinks: str = ""
    """`tensorboard`, `wandb` (offline unless WANDB_MODE says otherwise) or `module:name` of a
    `sare_jax.sinks.Sink`, separated by commas. Each writes into `WORKDIR/NAME/RUN`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names in `sinks`."""
        return tuple(dict.fromkeys(name.strip() for name in self.sinks.split(",") if name.strip()))
