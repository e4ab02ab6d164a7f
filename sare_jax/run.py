"""The road from images to report: `python main.py`, `sare run` and `sare plan`.

Importing this module defines the flags.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from sare_jax.command import called, config_dict, guarded, normalise_arguments, with_config_file
from sare_jax.config import known_keys, parse, renamed_keys
from sare_jax.errors import UserError
from sare_jax.settings.presets import with_runs

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings file; single keys with --config.section.key=value.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of all artifacts; default runs/<name of the experiment>."
)
RUN = flags.DEFINE_multi_string(
    "run",
    [],
    "A further run, begun from a run of the config or a preset: mine=robust,rho=0.1.",
)
PLAN = flags.DEFINE_bool(
    "plan", False, "Print parameters, mesh and peak memory of a run, and stop; needs no weights."
)
PLAN_DEVICES = flags.DEFINE_integer(
    "plan_devices",
    0,
    "Plan for so many simulated devices of the CPU, or cards; 0 takes those that are there.",
)
PLAN_GPU = flags.DEFINE_string(
    "plan_gpu", "", "Plan for a card that need not be there, such as h100-80gb; its compiler speaks."
)
PLAN_LARGEST = flags.DEFINE_bool(
    "plan_largest", False, "With --plan_gpu: find the largest batches that fit too, which takes much longer."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "address:port of the first of several processes; SLURM and Open MPI need no flags."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes run this command together.")
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this one is, from 0.")
QUIET = flags.DEFINE_bool("quiet", False, "Print the result table and mistakes alone.")
LOG_JSON = flags.DEFINE_bool(
    "log_json", False, "Print one JSON object a line on standard output: progress, messages, the result."
)
_PLANS = (PLAN, PLAN_DEVICES, PLAN_GPU, PLAN_LARGEST)
_OWN = (CONFIG, WORKDIR, RUN, *_PLANS, COORDINATOR, NUM_PROCESSES, PROCESS_ID, QUIET, LOG_JSON)


def main(arguments: Sequence[str]) -> None:
    """Runs one command line, and exits.

    Args:
      arguments: the command line without the program's name, which stays that of `sys.argv`.
    """
    usage = f"usage: {called('python main.py')} --config NAME_OR_FILE [--config.SECTION.KEY=VALUE …] [flags]"
    sys.modules["__main__"].__doc__ = usage  # where absl looks for what --help begins with
    call(arguments, _run)


def call(arguments: Sequence[str], function: Callable[[Sequence[str]], None]) -> None:
    """Parses a command line with a run's flags, calls the function, and exits.

    Args:
      arguments: the command line without the program's name.
      function: is called with what is no flag, the program's name first.
    """
    sys.argv = [sys.argv[0], *arguments]  # where ml_collections looks for the keys that are set
    for flag in _OWN:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag.name])  # what --help lists
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.set_verbosity(logging.WARNING)
    app.run(guarded(function), argv=sys.argv, flags_parser=guarded(parse_flags))


def _run(arguments: Sequence[str]) -> None:
    """Checks the settings, then hands over to the stages."""
    if PLAN_DEVICES.value or PLAN_GPU.value or PLAN_LARGEST.value:
        _simulate(PLAN_DEVICES.value)  # before the settings, whose own modules may import jax
    chosen = config_flags.get_override_values(flags.FLAGS[CONFIG.name])
    config = parse(with_runs(config_dict(CONFIG), RUN.value), chosen)
    from sare_jax import hosts, progress  # after the checks: a typo should not wait for jax

    progress.show_as(display())
    hosts.start(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if PLAN.value:
        from sare_jax.plan import plan, plan_card

        with progress.showing():  # so that what is printed is an event of --log_json
            if PLAN_GPU.value:
                answers = _workdir(config.name) / "plan"
                plan_card(config, PLAN_GPU.value, PLAN_DEVICES.value, answers, PLAN_LARGEST.value)
            else:
                plan(config)
        return
    from sare_jax import stages
    from sare_jax.stages import ending

    workdir = _workdir(config.name)
    with progress.showing():
        ledger = stages.run(config, workdir)
    ending.say(config, workdir, ledger.took)


def _workdir(name: str) -> Path:
    return Path(WORKDIR.value or Path("runs") / name)


def display() -> str:
    """How progress is shown, by the flags."""
    if QUIET.value and LOG_JSON.value:
        raise UserError("--quiet, --log_json: give one of them")
    if QUIET.value and PLAN.value:
        raise UserError("--quiet: not with --plan, which does nothing but print")
    return "quiet" if QUIET.value else "json" if LOG_JSON.value else "auto"


def _simulate(devices: int) -> None:
    """Has jax, which is not imported yet, see so many devices of the CPU; cards are described later."""
    if not PLAN.value:
        given = next(flag.name for flag in _PLANS if flag.value)
        raise UserError(f"--{given}: only with --plan; a run takes the devices that are there")
    if PLAN_LARGEST.value and not PLAN_GPU.value:
        raise UserError("--plan_largest: only with --plan_gpu=CARD, whose memory decides")
    if devices < 0:
        raise UserError(f"--plan_devices: must be at least 1, got {devices}")
    os.environ["JAX_PLATFORMS"] = "cpu"
    if PLAN_GPU.value or not devices:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the page says what does not fit
        return
    flag = f"--xla_force_host_platform_device_count={devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; every mistake becomes one line."""
    words = ["--help" if word == "-h" else word for word in arguments]  # which absl does not know
    try:
        return normalise_arguments(
            flags.FLAGS,
            with_config_file(words),
            required=("config",),
            renamed=renamed_keys(),
            keys=known_keys(),
        )
    except SystemExit:  # only --help ends here, and absl ends it with status 1
        sys.exit(0)
