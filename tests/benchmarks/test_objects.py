import json

from benchmarks import objects


def test_agreement_is_counted(tmp_path, capsys):
    """Three mentions, "cat" twice; the kitchen is no category, and the hot dog is named in brackets."""
    texts = ["A cat sits beside another cat in a kitchen.", "A [hot dog] lies on a plate."]
    lines = [json.dumps({"captions": texts[:1]}), json.dumps({"image": 2, "caption": texts[1]})]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    objects.main([str(tmp_path / "captions.jsonl")])
    said = capsys.readouterr().out
    assert said.startswith("captions.jsonl: 2 captions, ")
    assert "mentions      3 of 3 (100.0%)" in said
    assert "words         2 of 2 (100.0%)" in said
    assert "same category 3 of 3 (100.0%)" in said
    assert "known         3 of 5 objects (60%)" in said
