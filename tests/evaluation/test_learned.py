"""Learned metrics: what is told where weights are missing; the real code on networks with random weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from nc_refiner.evaluation.dover import LENGTH, MEAN, STD, Dover, DoverViews
from nc_refiner.evaluation.learned import ClipIqa, Lpips, load_tensors
from nc_refiner.evaluation.measure import measure
from nc_refiner.evaluation.meters import Models

from .conftest import MakeClip, noisy, textured

ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (ClipIqa, ("CLIP-IQA", "config.json", "huggingface.co/openai/clip-vit-base-patch16", "--clip-weights")),
        (Lpips, ("LPIPS", "alexnet-owt-7be5be79.pth", "download.pytorch.org/models/", "--lpips-weights")),
        (Dover, ("DOVER", "pretrained_weights/DOVER.pth", "github.com/VQAssessment/DOVER", "--dover")),
    ],
)
def test_missing_weights_are_one_line_with_file_source_and_flag(build, words, tmp_path: Path):
    with pytest.raises(FileNotFoundError) as nothing_named:
        build(None)
    with pytest.raises(FileNotFoundError, match="is missing") as not_there:
        build(tmp_path / "nowhere")
    for error in (nothing_named, not_there):
        assert "\n" not in str(error.value)
    assert all(word in str(not_there.value) for word in words)
    assert str(tmp_path / "nowhere") in str(not_there.value)


def test_the_others_are_measured_all_the_same(make_clip: MakeClip):
    a, b = make_clip("a.mp4", textured(2)), make_clip("b.mp4", noisy(textured(2), 0.1))
    found = measure(a, b, ["mse", "clip_iqa", "lpips", "dover"])
    assert found.metrics["mse"] > 0
    for name in ("clip_iqa", "lpips", "dover"):
        assert found.metrics[name] is None and " needs " in found.not_measured[name]
        assert name not in found.reference_metrics


@pytest.fixture(scope="module")
def tiny_clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of the real class with random weights, two layers, and a tokenizer of single letters."""
    transformers = pytest.importorskip("transformers", reason="the learned extra is not installed")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    config = transformers.CLIPConfig(
        text_config={"vocab_size": len(tokens), "max_position_embeddings": 77, **marks, **size},
        vision_config={"image_size": 32, "patch_size": 8, **size},
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def test_clip_iqa_is_the_published_formula(tiny_clip_model: Path, global_rng_untouched):
    import transformers

    frames = textured(3, 32, 32)
    found = ClipIqa(tiny_clip_model)(frames)
    model = transformers.CLIPModel.from_pretrained(tiny_clip_model).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_clip_model)
    # CLIP's own normalisation, by hand: a picture that was scaled twice would differ plainly.
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    pixels = ((frames * 255).byte().float() / 255 - mean) / std
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
        text = tokenizer(["Good photo.", "Bad photo."], padding=True, return_tensors="pt")
        said = model.text_projection(model.text_model(**text).pooler_output)
    seen, said = seen / seen.norm(dim=-1, keepdim=True), said / said.norm(dim=-1, keepdim=True)
    expected = (100 * seen @ said.T).softmax(dim=-1)[:, 0]
    assert found.shape == (3,) and found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected.tolist(), abs=2e-3)
    with pytest.raises(ValueError, match="NaN"):
        ClipIqa(tiny_clip_model)(frames / 0)


def test_clip_iqa_in_a_measurement(tiny_clip_model: Path, make_clip: MakeClip):
    a, b = make_clip("a.mp4", textured(2)), make_clip("b.mp4", noisy(textured(2), 0.5))
    found = measure(a, b, ["clip_iqa"], models=Models(clip=tiny_clip_model))
    assert 0 < found.metrics["clip_iqa"] < 1 and 0 < found.reference_metrics["clip_iqa"] < 1
    assert found.metrics["clip_iqa"] != found.reference_metrics["clip_iqa"]


def alexnet(path: Path) -> Path:
    """A file as torchvision publishes it, with random weights."""
    generator = torch.Generator().manual_seed(1)
    tensors = {"classifier.1.weight": torch.zeros(1)}
    for layer, (out, into, side) in ALEXNET.items():
        tensors[f"features.{layer}.weight"] = torch.randn((out, into, side, side), generator=generator) * 0.05
        tensors[f"features.{layer}.bias"] = torch.zeros(out)
    torch.save(tensors, path)
    return path


def lpips_runs() -> None:
    """Skips where LPIPS cannot be built: it needs torchvision, in the version that belongs to torch."""
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra: learned)")


def test_lpips_on_a_random_backbone(tmp_path: Path, global_rng_untouched):
    lpips_runs()
    measure_lpips = Lpips(alexnet(tmp_path / "alexnet.pth"))
    a = textured(2, 64, 64)
    assert measure_lpips(a, a).tolist() == [0, 0]
    little, much = (measure_lpips(a, noisy(a, amount)) for amount in (0.1, 0.4))
    assert (little > 0).all() and (little < much).all()
    # The backbone is the file's, not a random one: another build gives the same numbers.
    assert torch.equal(Lpips(tmp_path / "alexnet.pth")(a, noisy(a, 0.1)), little)
    with pytest.raises(ValueError, match="align"):
        measure_lpips(a, a[:1])


def test_lpips_refuses_other_weights(tmp_path: Path):
    lpips_runs()
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: is not AlexNet"):
        Lpips(tmp_path / "other.pth")


def test_lpips_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(ImportError, match=r"lpips is not installed; pip install 'nc_refiner\[learned\]'"):
        Lpips(alexnet(tmp_path / "alexnet.pth"))


def test_weights_that_are_none(tmp_path: Path):
    (tmp_path / "text.pth").write_text("not weights")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name, words in (("text.pth", "cannot be read as weights"), ("list.pth", "no plain table")):
        with pytest.raises(ValueError, match=words):
            load_tensors(tmp_path / name)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "good.safetensors")
    assert load_tensors(tmp_path / "good.safetensors")["a"].tolist() == [1, 1]


def test_dover_s_views_hold_what_the_branches_were_trained_on():
    frames = textured(16, 320, 512)
    views = DoverViews(16, 320, 512)
    views.add(frames[:5])
    with pytest.raises(ValueError, match="said to have 16 frames and has 5"):
        views.finished()
    views.add(frames[5:])
    found = views.finished()
    assert found["technical"].shape == (3, 3, LENGTH, 224, 224) and found["aesthetic"].shape == (1, 3, LENGTH, 224, 224)
    # Every patch of the mosaic is a piece of its frame at full resolution.
    for clip, i, j, t in ((0, 0, 0, 0), (1, 3, 5, 9), (2, 6, 6, 31)):
        top, left = int(views._tops[clip, i, j]), int(views._lefts[clip, i, j])
        frame = frames[views.technical_frames[clip * LENGTH + t]]
        patch = found["technical"][clip, :, t, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
        assert torch.equal(patch, frame[:, top : top + 32, left : left + 32])
        assert i * (320 // 7) <= top <= (i + 1) * (320 // 7) - 32
    with pytest.raises(ValueError, match="has more"):
        views.add(frames[:1])


def test_dover_s_aesthetic_branch_sees_one_frame_of_a_short_clip():
    assert set(DoverViews(16, 224, 224).aesthetic_frames) == {0}
    spread = DoverViews(320, 224, 224).aesthetic_frames
    assert len(set(spread)) == LENGTH and spread == sorted(spread) and max(spread) < 320
    runs = DoverViews(320, 224, 224).technical_frames
    assert all(
        b - a == 2 for start in (0, 32, 64) for a, b in zip(runs[start:], runs[start + 1 : start + 32], strict=False)
    )


def test_dover_s_views_enlarge_small_frames():
    views = DoverViews(2, 64, 96)
    views.add(textured(2))
    assert torch.isfinite(views.finished()["technical"]).all()


PACKAGE = """
import torch
from torch import nn
from .evaluator import DOVER
"""
EVALUATOR = """
import torch
from torch import nn


def convnext_3d_tiny(pretrained=False):
    assert not pretrained, "a download was asked for"
    return nn.Conv3d(3, 4, 1)


class DOVER(nn.Module):
    def __init__(self, backbone, backbone_preserve_keys, divide_head, vqa_head):
        super().__init__()
        print("chatter")
        self.aesthetic = convnext_3d_tiny(pretrained=True)
        self.technical = nn.Conv3d(3, 4, 1)

    def forward(self, views):
        return [getattr(self, name)(view[:, :, :2, :8, :8]) * 0.01 for name, view in views.items()]
"""


def test_dover_is_built_from_its_folder_without_a_download(tmp_path: Path, make_clip: MakeClip, capsys):
    """Loading and fusion, on a small network in the authors' layout: theirs is not ours to ship."""
    models = tmp_path / "dover" / "models"
    models.mkdir(parents=True)
    (models / "__init__.py").write_text(PACKAGE)
    (models / "evaluator.py").write_text(EVALUATOR)
    with pytest.raises(FileNotFoundError, match=r"DOVER\.pth is missing"):
        Dover(tmp_path)
    weights = {
        f"{branch}.{part}": torch.full(shape, value)
        for branch, value in (("aesthetic", 0.2), ("technical", 0.1))
        for part, shape in (("weight", (4, 3, 1, 1, 1)), ("bias", (4,)))
    }
    (tmp_path / "pretrained_weights").mkdir()
    torch.save(weights, tmp_path / "pretrained_weights" / "DOVER.pth")
    grey = torch.full((3, 3, 64, 96), 0.5)
    judge = Dover(tmp_path)
    views = judge.views(3, 64, 96)
    views.add(grey)
    level = sum((127.5 - mean) / std for mean, std in zip(MEAN, STD, strict=True))
    technical, aesthetic = (0.01 * (weight * level + weight) for weight in (0.1, 0.2))
    fused = (technical - 0.1107) / 0.07355 * 0.6104 + (aesthetic + 0.08285) / 0.03774 * 0.3896
    assert judge.score(views) == pytest.approx(1 / (1 + 2.718281828459045**-fused), abs=1e-5)
    assert capsys.readouterr().out == ""
    a = make_clip("a.mp4", textured(2))
    found = measure(a, a, ["dover"], models=Models(dover=tmp_path))
    assert found.metrics["dover"] == found.reference_metrics["dover"] != 0
    torch.save({"other": torch.zeros(1)}, tmp_path / "pretrained_weights" / "DOVER.pth")
    with pytest.raises(ValueError, match="another network"):
        Dover(tmp_path)
