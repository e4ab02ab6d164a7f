"""The command `sare NAME …`, also `python -m sare_jax NAME …`: one name for each thing that can be run."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sare_jax.command import guarded, launch
from sare_jax.errors import UserError

_ROAD, _SCORES = "sare_jax.run:main", "sare_jax.evaluation.command:run"


@dataclass(frozen=True)
class Command:
    """What a name stands for.

    Attributes:
      target: `module:name` of a function of the command line without the program's name.
      about: what it does, in a line.
      before: words that come before those of the command line.
    """

    target: str
    about: str
    before: tuple[str, ...] = ()


def _score(name: str, about: str) -> Command:
    return Command(_SCORES, about, (name,))


COMMANDS = {
    "run": Command(_ROAD, "the road from images to report: --config NAME_OR_FILE"),
    "plan": Command(_ROAD, "parameters, mesh and peak memory of such a run, without weights", ("--plan",)),
    "curate": Command("sare_jax.curation.command:main", "D_neg, D_pos and D_sent from captions and images"),
    "export": Command("sare_jax.export.command:main", "a checkpoint as a folder that others load"),
    "report": Command("sare_jax.report.command:main", "the report of a run, anew or live, or of two runs"),
    "reproduce": Command("sare_jax.reproduce.command:main", "the paper's tables and figures"),
    "frontier": Command("sare_jax.frontier.command:main", "methods as curves over their weight"),
    "probe": Command("sare_jax.probe.command:main", "how far weights moved, and what they know"),
    "chair": _score("chair", "captions' invented objects, by every mention and by distinct words"),
    "pope": _score("pope", "the three lists of yes-or-no questions, and scores of their answers"),
    "bleu": _score("bleu", "BLEU-1, 2 and 4 against references"),
    "perplexity": _score("perplexity", "perplexity of captions under a GPT-2-format model"),
    "informativeness": _score("informativeness", "coverage of references, by a judge behind an endpoint"),
    "human": _score("human", "a local page on which people mark objects"),
    "mme": _score("mme", "MME: questions for a model, and scores of its answers"),
    "gqa": _score("gqa", "GQA: the same"),
    "scienceqa": _score("scienceqa", "ScienceQA: the same"),
    "qbench": _score("qbench", "Q-Bench: the same"),
    "amber": _score("amber", "AMBER: descriptions by annotated objects, and yes-or-no questions"),
    "hallusion": _score("hallusion", "HallusionBench: the same, by yes and no"),
    "repope": _score("repope", "RePOPE: POPE's lists by corrected labels and by their own"),
    "mmhal": _score("mmhal", "MMHal-Bench: questions for a model, and its answers rated by a judge"),
    "objhal": _score("objhal", "Object HalBench: the same for descriptions"),
    "compare": _score("compare", "two runs, paired bootstrap differences"),
}
"""Name → command, in the order of the list that `--help` prints."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names; lists them all where there is none.

    Args:
      arguments: the command line without the program's name; None takes that of this process.
    """
    guarded(_main)(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print("\n".join(_listing()))
        return
    name, *rest = arguments
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {close[0]}?" if close else f"they are {', '.join(COMMANDS)}"
        raise UserError(f"sare: {name!r} is no command; {advice}")
    command = COMMANDS[name]
    typed = "python -m sare_jax" if Path(sys.argv[0]).stem == "__main__" else "sare"
    sys.argv[0] = f"{typed} {name}"  # in messages and usage lines
    launch(command.target, [*command.before, *rest])


def _listing() -> list[str]:
    width = max(map(len, COMMANDS))
    shown = [f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items()]
    return ["usage: sare NAME …     (sare NAME --help says more)", *shown]


if __name__ == "__main__":
    main()
