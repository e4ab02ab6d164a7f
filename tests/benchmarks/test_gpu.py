"""The measurements of one card: its parts, what a failed one leaves, and the page."""

import json

from benchmarks import gpu, shapes

FOUND = {
    "card": {"card": "H100", "jax": "0.10.2"},
    "ceilings": {"flops": 7e14, "copy_bytes_per_s": 3e12},
    "step": {
        "peak_flops": 7e14,
        "cases": [
            {
                "form": "packed",
                "method": "sare",
                "unit_s": 0.01,
                "peer_unit_s": 0.05,
                "share_of_peak": 0.55,
                "peak_bytes": 16_000_000_000,
                "compile_s": 60.0,
            }
        ],
    },
    "captions": {
        "ours": {"tokens_per_s": 900.0, "prompt_s": 0.4, "whole_s": 1.8},
        "transformers": {"tokens_per_s": 300.0, "prompt_s": 0.5, "whole_s": 5.0},
        "read_bytes_per_s": 1.5e12,
    },
    "load": {"failed": "not done in 40 s"},
}


def test_the_page_holds_each_figure_as_ratio_and_share():
    told = gpu.page(FOUND)
    assert "| sare | packed | 0.0100 | 5.00 | 55% | 16.00 |" in told
    assert "captions: 900 tokens/s, transformers 300: 3.00 ×; reads at 50% of a copy" in told
    assert "load: not measured: not done in 40 s" in told


def test_a_part_that_comes_too_late_is_said_and_the_others_are_measured(tmp_path, capsys):
    arguments = ["--shape", "tiny", "--dtype", "float32", "--seconds", "0", "--out", str(tmp_path)]
    gpu.main([*arguments, "--parts", "captions", "curate"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["captions"]["failed"] == found["curate"]["failed"] == "no time left"
    assert "curate: not measured: no time left" in (tmp_path / "gpu.md").read_text()
    assert "curate: not measured" in capsys.readouterr().out


def test_shapes_are_those_of_published_models():
    vision, text = shapes.SHAPES["7b"]
    assert (text["hidden_size"], text["num_attention_heads"], text["num_hidden_layers"]) == (4096, 32, 32)
    assert vision["num_attention_heads"] == 16
    _, small = shapes.SHAPES["small"]
    assert (small["hidden_size"], small["num_attention_heads"]) == (512, 8)
