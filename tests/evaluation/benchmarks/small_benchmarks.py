"""Benchmarks of a few questions, written in the official formats."""

import json
from pathlib import Path

ASK = " Please answer yes or no."


def write_mme(root: Path, tasks: dict[str, dict[str, list[tuple[str, str]]]], apart: str = "") -> Path:
    """MME's folder: {task: {image: [(question, answer), …]}}; the task `apart` is laid out in two folders."""
    for task, images in tasks.items():
        texts = root / task / ("questions_answers_YN" if task == apart else "")
        pictures = root / task / ("images" if task == apart else "")
        for folder in (texts, pictures):
            folder.mkdir(parents=True, exist_ok=True)
        for image, lines in images.items():
            (pictures / f"{image}.png").write_bytes(b"")
            (texts / f"{image}.txt").write_text("".join(f"{q}{ASK}\t{a}\n" for q, a in lines))
    return root


def pairs(*images: str) -> dict[str, list[tuple[str, str]]]:
    """Images of a task, each with a question to be answered Yes and one to be answered No."""
    return {name: [(f"Is {name} here?", "Yes"), (f"Is {name} gone?", "No")] for name in images}


def write_gqa(folder: Path, entries: dict[str, tuple[str, str, str, str]]) -> Path:
    """GQA's testdev_balanced_questions.json: {id: (image, question, answer, structural type)}."""
    (folder / "questions1.2").mkdir(parents=True, exist_ok=True)
    content = {
        key: {
            "semantic": [],
            "imageId": image,
            "question": question,
            "answer": answer,
            "fullAnswer": f"It is {answer}.",
            "isBalanced": True,
            "groups": {"global": None, "local": "x"},
            "types": {"detailed": "x", "semantic": "attr", "structural": structural},
        }
        for key, (image, question, answer, structural) in entries.items()
    }
    (folder / "questions1.2" / "testdev_balanced_questions.json").write_text(json.dumps(content))
    return folder


SCIENCE = (  # id, image, question, choices, answer, subject, grade, hint
    ("4", "4/image.png", "Which state is farthest north?", ["Virginia", "West Virginia", "Maine"], 2),
    ("11", None, "Which word is a noun?", ["run", "tree"], 1),
    ("20", "20/image.png", "Which is a solid?", ["air", "water", "ice", "steam"], 2),
    ("33", "33/image.png", "In the train split.", ["a", "b"], 0),
)


def write_scienceqa(folder: Path, *, problems: bool = True, splits: bool = True, form: str = "lines") -> Path:
    """ScienceQA in LLaVA's form, choices a line each or, as `brackets`, all in one line."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, described = [], {}
    for key, image, question, choices, answer in SCIENCE:
        letters = "ABCDE"
        if form == "lines":
            text = question + "".join(f"\n{letters[i]}. {choice}" for i, choice in enumerate(choices))
        else:
            listed = " ".join(f"({letters[i]}) {choice}" for i, choice in enumerate(choices))
            text = f"Context: N/A\nQuestion: {question}\nOptions: {listed}"
        gold = letters[answer] if form == "lines" else f"Answer: The answer is {letters[answer]}."
        human = f"<image>\n{text}" if image else text
        turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gold}]
        entries.append({"id": key, **({"image": image} if image else {}), "conversations": turns})
        described[key] = {
            "question": question,
            "choices": choices,
            "answer": answer,
            "hint": "Read this." if key == "20" else "",
            "image": "image.png" if image else None,
            "grade": "grade2" if key == "4" else "grade8",
            "subject": "social science" if key == "4" else "natural science",
            "split": "test",
        }
    (folder / "llava_test_CQM-A.json").write_text(json.dumps(entries))
    if problems:
        (folder / "problems.json").write_text(json.dumps(described))
    if splits:
        (folder / "pid_splits.json").write_text(json.dumps({"train": ["33"], "test": ["4", "11", "20"]}))
    return folder


def write_qbench(folder: Path) -> Path:
    """Q-Bench's llvisionqa_dev.json: three questions on two images."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        ("00118.jpg", "Is it sharp?", ["Yes", "No"], "No", 0, 0),
        ("00118.jpg", "How bright is it?", ["High", "Medium", "Low"], "Low", 2, 1),
        ("9.png", "What harms it most?", ["Blur", "Noise", "Glare", "Motion blur"], "Motion blur", 1, 2),
    ]
    names = ("img_path", "question", "candidates", "correct_ans", "type", "concern")
    content = [dict(zip(names, entry, strict=True)) for entry in entries]
    (folder / "llvisionqa_dev.json").write_text(json.dumps(content))
    return folder
