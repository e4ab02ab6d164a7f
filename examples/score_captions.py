"""CHAIR and POPE from Python, of captions and answers that you have already.

    python -m examples.score_captions

Give your own: `truth` may be the folder of COCO's annotations, and captions the path of a file.
"""

import sare_jax
from sare_jax.evaluation.metrics import pope
from sare_jax.records.coco import listed_truth

TRUTH = {
    "kitchen_1.jpg": ["cup", "bowl", "refrigerator"],
    "street_2.jpg": ["car", "person", "bicycle"],
    "garden_3.jpg": ["dog", "bench", "kite"],
}
CAPTIONS = {
    "kitchen_1.jpg": "A cup stands beside a bowl on the table, and a cat sleeps on the chair.",
    "street_2.jpg": "A man rides a bicycle past a parked car.",
    "garden_3.jpg": "A dog lies under a bench.",
}


def main() -> dict[str, float]:
    """CHAIR's and POPE's numbers, in percent."""
    chair = sare_jax.chair(CAPTIONS, TRUTH)
    low, high = chair["intervals"]["chair_s"]
    print(f"CHAIR_S {chair['chair_s']:.1f} (95 % {low:.1f} to {high:.1f}) of {chair['n']} captions")
    print(f"CHAIR_I {chair['chair_i']:.1f}, recall {chair['recall']:.1f}")
    print(f"invented: {', '.join(chair['hallucinated_categories'])}")

    questions = pope.build(listed_truth(TRUTH, "truth"), "random", num_images=3)
    answers = [{"question_id": question["question_id"], "answer": "Yes, there is."} for question in questions]
    found = pope.score(questions, answers)  # of a model that always says yes
    print(f"POPE: accuracy {found['accuracy']:.1f}, F1 {found['f1']:.1f}, yes {found['yes_ratio']:.1f}")
    return {"chair_s": chair["chair_s"], "accuracy": found["accuracy"], "yes_ratio": found["yes_ratio"]}


if __name__ == "__main__":
    main()
