"""What the demo's LLaVA is asked, and in which form.

The description prompts are those of the paper and of the lineage it builds on: evaluation and training prompt
of EFUF (`common/args.py`), its data-collection prompt, and the adversarial prompt of Appendix C.
"""

from typing import Literal

Style = Literal["long", "brief", "listing"]

EVALUATION_PROMPT = "Please describe the image in great detail. Your response should have at least 100 words."
TRAINING_PROMPT = "Please describe the image."
BRIEF_PROMPT = "Please describe the image in no more than 50 words. Make sure to be brief and concise."
ADVERSARIAL_PROMPT = (
    "Please provide a comprehensive description of the image. Systematically list all the clearly"
    " identifiable objects you see, ensuring you do not overlook any distinct items."
)
STYLES: dict[str, Style] = {
    EVALUATION_PROMPT: "long",
    TRAINING_PROMPT: "long",
    BRIEF_PROMPT: "brief",
    ADVERSARIAL_PROMPT: "listing",
}
"""How the writer answers each description prompt."""

QUESTION_SETS = {name: f"questions/{name}" for name in ("mme", "gqa", "scienceqa", "qbench")}
"""Benchmark → the folder of a world that holds questions in its form (see `questions`)."""


def chat(instruction: str) -> str:
    """The prompt form of the llava-hf models on the hub, up to where the answer starts."""
    return f"USER: <image>\n{instruction} ASSISTANT:"


def question(phrase: str) -> str:
    """POPE's question about an object, given with its article: `a dog`."""
    return f"Is there {phrase} in the image?"


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The same form as a template for `processor.apply_chat_template`."""
