"""The paper's tables and figures, one command each: `python -m sare_jax.reproduce NAME`.

A name stands for an `Experiment`: which runs and attacks it takes, and what is made of their numbers. The
stages make what is missing, so that experiments share captions, curation and runs, and a second call makes
the pages alone.
"""

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = {
    "table1": "sare_jax.reproduce.main_results:TABLE1",
    "table2": "sare_jax.reproduce.variations:TABLE2",
    "table3": "sare_jax.reproduce.main_results:TABLE3",
    "table4": "sare_jax.reproduce.variations:TABLE4",
    "fig1": "sare_jax.reproduce.drawn:FIG1",
    "fig3": "sare_jax.reproduce.baselines:FIG3",
    "fig4": "sare_jax.reproduce.variations:FIG4",
    "fig5": "sare_jax.reproduce.baselines:FIG5",
    "fig6": "sare_jax.reproduce.drawn:FIG6",
}
