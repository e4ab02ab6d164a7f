"""How `--config.key=value` is read where a value may be a number or `auto`."""

from absl import flags
from ml_collections import config_flags

from sare_jax.settings.auto import AUTO, IN_CONFIG
from sare_jax.settings.building import NOT_AUTO


class _SizeParser(flags.ArgumentParser):
    """Reads a number or `auto`; the settings refuse any other text."""

    syntactic_help = "a number or auto"

    def parse(self, argument: int | str) -> int | str:
        text = str(argument).strip()
        return int(text) if text.lstrip("+-").isdecimal() else text


class _IntegerParser(flags.IntegerParser):
    """Reads a number; says of `auto` what it is for."""

    def convert(self, argument: int | str) -> int:
        if argument == AUTO:
            raise ValueError(NOT_AUTO)
        return super().convert(argument)


def register() -> None:
    """Has flags of a config file read sizes so, and other numbers say of `auto` what it is for."""
    config_flags.register_flag_parser_for_type(IN_CONFIG, _SizeParser())
    config_flags.register_flag_parser_for_type(int, _IntegerParser())
