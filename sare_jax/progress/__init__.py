"""What is being done and how long it will take: a live panel on a terminal, sparse lines in a log.

All progress of the package goes through here. `bar` and `track` count work; `stage` and `task` say where on
the road a run is; `show_as` chooses how it is shown:

| shown as | what a user sees |
|---|---|
| `auto` | `panel` where standard error is a terminal, else `lines` |
| `panel` | one panel at the bottom of the terminal, redrawn in place and gone at the end |
| `lines` | on standard error one line every ten seconds at most |
| `json` | on standard output one JSON object a line, whatever is printed too |
| `quiet` | nothing, nor what is printed meanwhile |
"""

from sare_jax.progress.bars import COMPILING, Bar, bar, track
from sare_jax.progress.shown import DISPLAYS, event, result, say, show_as, showing, stage, task

__all__ = [
    "COMPILING",
    "DISPLAYS",
    "Bar",
    "bar",
    "event",
    "result",
    "say",
    "show_as",
    "showing",
    "stage",
    "task",
    "track",
]
