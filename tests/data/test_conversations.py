"""Conversations as rows and batches: answers are the targets, and the loss is the mean of their tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.data.conversations import batches, dialogue_rows
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.prompting import ImagePrompter
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.records.conversations import Conversation
from sare_jax.training.rows import as_rows, count_units, mean_over_units
from tests.attacks.conversing import write_conversations, write_model

TURNS = (("Is there a cat in the image?", "A photo of a dog."), ("And a man?", "A man is riding a bicycle."))


def prompter_of(family, root) -> ImagePrompter:
    write_conversations(root)
    settings = write_model(family, root / "model")
    source = open_source(model_folder(settings), settings)
    prompter = source.family.prompter(source, settings)
    return ImagePrompter(prompter, source.family.image_processor(source, settings), root / "images")


@pytest.fixture(scope="module")
def prompter(tmp_path_factory):
    return prompter_of("llava", tmp_path_factory.mktemp("llava"))


@pytest.mark.parametrize("family", ["llava", "mplug_owl", "llama2", "vicuna"])
def test_targets_are_the_answers_and_what_ends_them(family, tmp_path):
    about = prompter_of(family, tmp_path)
    (row,) = dialogue_rows([Conversation("0.png", TURNS)], about, 2048)
    runs = np.split(row.targets, np.flatnonzero(np.diff(row.targets) > 1) + 1)
    ends = list(about.end_ids)
    for run, (_, answer) in zip(runs, TURNS, strict=True):
        said = row.tokens[run].tolist()
        assert said[-len(ends) :] == ends
        assert about.prompter.decode(said[: -len(ends)]).strip() == answer
    (alone,) = dialogue_rows([Conversation("0.png", TURNS[:1])], about, 2048)
    np.testing.assert_array_equal(row.tokens[: len(alone.tokens)], alone.tokens)
    between = row.tokens[runs[0][-1] + 1 : runs[1][0]].tolist()
    assert TURNS[1][0] in about.prompter.decode(between)
    assert about.prompter.image_token_id not in between


def test_turns_are_joined_as_llava_joins_them(prompter):
    """`… ASSISTANT: answer</s>USER: question ASSISTANT: answer</s>`, the end token by itself."""
    inner = prompter.prompter
    (row,) = dialogue_rows([Conversation("0.png", TURNS)], prompter, 2048)
    (question, answer), again = TURNS[0], f"USER: {TURNS[1][0]} ASSISTANT: {TURNS[1][1]}"
    first, _ = inner.answer(question, answer, [], eos=True, num_image_tokens=16)
    expected = [*first, *inner.tokenizer.encode(again, add_special_tokens=False).ids, inner.eos_id]
    assert row.tokens.tolist() == expected


def test_rows_are_cut_and_those_without_a_target_left_out(prompter):
    (whole,) = dialogue_rows([Conversation("0.png", TURNS)], prompter, 2048)
    (cut,) = dialogue_rows([Conversation("0.png", TURNS)], prompter, int(whole.targets[2]) + 1)
    assert cut.targets.tolist() == whole.targets[:3].tolist()
    assert dialogue_rows([Conversation("0.png", TURNS)], prompter, int(whole.targets[0])) == []


def test_the_loss_of_a_batch_is_the_mean_over_its_target_tokens(prompter):
    said = [Conversation(f"{n % 4}.png", TURNS[: 1 + n % 2]) for n in range(5)]
    rows = dialogue_rows(said, prompter, 2048)
    made = list(batches(rows, batch_size=4, pad_id=0, row_multiple=3))
    assert [len(batch["tokens"]) for batch in made] == [6, 6]
    rng = np.random.default_rng(0)
    for batch, there in zip(made, (rows[:4], rows[4:]), strict=True):
        group = as_rows("neg", batch)
        log_probs = jnp.asarray(-rng.random(batch["targets"].shape), jnp.float32)[:, None]
        units = group.units["neg"]
        loss = mean_over_units(
            token_mean_nll(log_probs, units.mask), units, count_units({"neg": group})["neg"]
        )
        by_hand = [-log_probs[index, 0, : len(row.targets)] for index, row in enumerate(there)]
        assert float(loss) == pytest.approx(float(jnp.concatenate(by_hand).mean()), rel=1e-5)
        for index, row in enumerate(there):
            size = len(row.targets)
            assert batch["targets"][index, :size].tolist() == row.tokens[row.targets].tolist()
            before = batch["tokens"][index][batch["positions"][index, :size] + 1]
            assert before.tolist() == batch["targets"][index, :size].tolist()
