"""Benchmarks of hallucination of a few questions, written in the official layouts."""

import base64
import json
from pathlib import Path

from tests.evaluation.small_worlds import write_coco

RELATION = {
    "road": ["street", "ground"],
    "ground": ["floor"],
    "man": ["person"],
    "dog": [],
    "tree": ["bush"],
    "sky": [],
    "car": ["vehicle"],
    "street": [],
    "person": ["man"],
    "floor": [],
    "bush": [],
    "vehicle": [],
}
SCENES = {  # id: (truth, hallu)
    1: (["road", "ground", "man", "man"], ["dog", "tree"]),
    2: (["sky"], ["car"]),
}
YES_NO = (  # id, image of the scene, query, type, truth
    (3, 1, "Is the man tall in this image?", "discriminative-attribute-state", "yes"),
    (4, 1, "Is the man short in this image?", "discriminative-attribute-state", "no"),
    (5, 2, "Is there a dog in this image?", "discriminative-hallucination", "no"),
    (6, 2, "Is there direct contact between the sky and car?", "relation", "no"),
)


def write_amber(root: Path) -> Path:
    """AMBER's folder: two descriptions and four yes/no queries."""
    (root / "data" / "query").mkdir(parents=True)
    queries = [{"id": i, "image": f"AMBER_{i}.jpg", "query": "Describe this image."} for i in SCENES]
    told = [{"id": i, "type": "generative", "truth": t, "hallu": h} for i, (t, h) in SCENES.items()]
    queries += [{"id": i, "image": f"AMBER_{image}.jpg", "query": query} for i, image, query, *_ in YES_NO]
    told += [{"id": i, "type": kind, "truth": truth} for i, _, _, kind, truth in YES_NO]
    for name, content in (
        ("query/query_all.json", queries),
        ("query/query_generative.json", queries[:2]),
        ("query/query_discriminative.json", queries[2:]),
        ("annotations.json", told),
        ("relation.json", RELATION),
    ):
        (root / "data" / name).write_text(json.dumps(content))
    (root / "data" / "safe_words.txt").write_text("vehicle\nlight")
    return root


HALLUSION = (  # category, visual_input, set, figure, question, gold answer
    ("VD", "1", "0", "0", "0", "1"),
    ("VD", "1", "0", "0", "1", "0"),
    ("VD", "2", "0", "1", "0", "0"),
    ("VD", "2", "0", "1", "1", "1"),
    ("VS", "0", "0", "0", "0", "1"),
    ("VS", "1", "0", "1", "0", "1"),
    ("VS", "2", "0", "2", "0", "0"),
)


def write_hallusion(folder: Path) -> Path:
    """HallusionBench.json: a set of two figures, and one of two figures and a question without an image."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for category, visual, number, figure, question, gold in HALLUSION:
        part = "illusion" if category == "VD" else "chart"
        entries.append(
            {
                "category": category,
                "subcategory": part,
                "visual_input": visual,
                "set_id": number,
                "figure_id": figure,
                "sample_note": "",
                "question_id": question,
                "question": f"Is {category} {question} so?",
                "gt_answer_details": "It is as it is.",
                "gt_answer": gold,
                "filename": None if visual == "0" else f"./{category}/{part}/{number}_{figure}.png",
            }
        )
    (folder / "HallusionBench.json").write_text(json.dumps(entries))
    return folder


POPE = {  # list: (image, object, POPE's label, RePOPE's label or none)
    "random": (
        ("1", "dog", "yes", "yes"),
        ("1", "cat", "no", "yes"),
        ("2", "car", "yes", None),
        ("2", "cup", "no", "no"),
    ),
    "popular": (("1", "dog", "yes", "no"), ("2", "person", "no", "no")),
}


def write_repope(root: Path, *, originals: bool = True) -> Path:
    """RePOPE's folder: two of its lists, with POPE's own beside them."""
    (root / "annotations").mkdir(parents=True)
    for kind, entries in POPE.items():
        lists: dict[str, list[dict]] = {"pope": [], "repope": []}
        for number, (image, name, label, new) in enumerate(entries, start=1):
            text = f"Is there a {name} in the image?"
            record = {"question_id": number, "image": f"COCO_val2014_{image}.jpg", "text": text}
            lists["pope"].append({**record, "label": label})
            if new:
                lists["repope"].append({**record, "label": new})
        for name, records in lists.items():
            if name == "repope" or originals:
                path = root / "annotations" / f"coco_{name}_{kind}.json"
                path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


MMHAL = (  # picture, kind, question, answer by a person, what is in the picture
    ("a_o.jpg", "attribute", "What color is the cap?", "The cap is yellow.", ["Fire hydrant"]),
    ("b_o.jpg", "adversarial", "Who sits on the bench?", "No one sits on it.", ["Door", "Building"]),
    ("c_o.jpg", "counting", "How many vases are there?", "There are two.", []),
)


def write_mmhal(folder: Path) -> Path:
    """MMHal-Bench's response_template.json with three questions."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "question_type": kind,
            "question_topic": "outdoor",
            "image_id": f"{number:016x}",
            "image_src": f"https://farm.example.org/8/{picture}?x=1",
            "image_content": content,
            "question": question,
            "gt_answer": answer,
            "model_answer": "",
        }
        for number, (picture, kind, question, answer, content) in enumerate(MMHAL)
    ]
    (folder / "response_template.json").write_text(json.dumps(entries))
    return folder


OBJHAL = {1: ["dog", "cup"], 2: ["car"], 3: ["chair"]}  # image: its categories
ASKED = "Provide a thorough description of the given image."


def write_objhal(root: Path, *, pictures: bytes | None = None) -> Path:
    """Object HalBench's lines with COCO's annotations beside them, with or without the pictures."""
    write_coco(root / "annotations", OBJHAL, {image: ["a thing"] for image in OBJHAL})
    carried = {} if pictures is None else {"image": base64.b64encode(pictures).decode()}
    lines = [
        {"org_idx": number, "image_id": image, "question": ASKED, **carried}
        for number, image in enumerate(OBJHAL)
    ]
    path = root / "obj_halbench_300_with_image.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
