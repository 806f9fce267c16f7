"""Feature networks: the published architectures, equal to their peers; and wrong files."""

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image import lpips as peer_lpips

from movq_core.bundle import ModelBundle
from movq_core.training.evaluation import weights_file
from movq_core.training.evaluation.features import EncoderFeatures, load_inception, load_lpips
from movq_core.training.evaluation.inception import FIDInception
from movq_core.training.evaluation.lpips import alexnet_features, vgg16_features
from movq_core.training.evaluation.weights_file import ALEXNET, INCEPTION, VGG16, WeightsError, read_tensors
from worker.fakes import TINY


def vgg16_file(path):
    """Random weights under torchvision's names, a classifier among them; returns the features."""
    torch.manual_seed(0)
    features = vgg16_features()
    tensors = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save({**tensors, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return features


def images(count=3, side=64, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


@pytest.mark.parametrize(
    ("net", "features", "pool"), [("vgg", vgg16_features, 2), ("alex", alexnet_features, 3)]
)
def test_lpips_is_that_of_torchmetrics_with_the_same_backbone(tmp_path, monkeypatch, net, features, pool):
    torch.manual_seed(1)
    backbone = features()
    torch.save(backbone.state_dict(), tmp_path / "features.pth")
    monkeypatch.setattr(
        peer_lpips, "_get_tv_model_features", lambda *_: nn.Sequential(*backbone, nn.MaxPool2d(pool, 2))
    )
    peer = peer_lpips._NoTrainLpips(net=net)  # with the published heads
    ours = load_lpips(tmp_path / "features.pth", allow_unknown=True)
    a, b = images(), images(seed=1)
    torch.testing.assert_close(ours(a, b), peer(a, b).flatten(), rtol=1e-4, atol=1e-7)
    assert ours(a, a).abs().max() == 0.0


def test_lpips_can_be_learnt_from_even_where_features_are_zero(tmp_path):
    vgg16_file(tmp_path / "vgg.pth")
    network = load_lpips(tmp_path / "vgg.pth", allow_unknown=True)
    a = torch.zeros(2, 3, 32, 32, requires_grad=True)
    network(a, images(2, 32)).sum().backward()
    assert a.grad.isfinite().all()
    assert a.grad.abs().sum() > 0.0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_file_of_another_hash_is_refused_and_a_known_one_taken(tmp_path, monkeypatch):
    path = tmp_path / VGG16.name
    vgg16_file(path)
    with pytest.raises(WeightsError, match=r"SHA-256 .* vgg16-397923af.pth \(397923af\.\.\.\)"):
        load_lpips(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = weights_file.Published(VGG16.name, digest, "here")
    assert read_tensors(tmp_path, [known])["features.0.weight"].shape == (64, 3, 3, 3)


def test_the_known_digests_are_those_in_the_published_names():
    for published in (VGG16, ALEXNET, INCEPTION):
        assert f"-{published.sha256[:8]}." in published.name
        assert len(published.sha256) == 64


@pytest.mark.parametrize("load", [load_lpips, load_inception])
def test_a_missing_file_is_named(tmp_path, load):
    with pytest.raises(WeightsError, match=r"(vgg16-397923af|pt_inception-2015-12-05-6726825d)\.pth"):
        load(tmp_path)
    with pytest.raises(WeightsError, match="not there"):
        load(tmp_path / "no.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_with_code_is_refused_even_if_its_hash_may_be_any(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": Harmful()}, path)
    with pytest.raises(WeightsError, match="more than tensors"):
        load_lpips(path, allow_unknown=True)
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(WeightsError):
        load_lpips(path, allow_unknown=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_what_is_no_file_of_weights_is_said_to_be_none(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError):
            load_lpips(tmp_path / name, allow_unknown=True)


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    tensors = {f"features.{name}": t.contiguous() for name, t in vgg16_features().state_dict().items()}
    del tensors["features.28.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"28\.bias"):
        load_lpips(path, allow_unknown=True)
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"features\.0\.weight"):
        load_lpips(path, allow_unknown=True)


@pytest.fixture(scope="module")
def inception():
    """Random weights that let a signal through, statistics of the norms too."""
    torch.manual_seed(2)
    network = FIDInception().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def test_the_inception_has_the_published_tensors(inception):
    """94 convolutions of 6 tensors each, and the classifier: 566, and 23.85 million learnt numbers."""
    tensors = inception.state_dict()
    assert len(tensors) == 566
    assert sum(parameter.numel() for parameter in inception.parameters()) == 23_850_960
    assert tensors["Mixed_7b.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert tensors["Mixed_6d.branch7x7dbl_2.conv.weight"].shape == (160, 160, 7, 1)
    assert tensors["fc.weight"].shape == (1008, 2048)


def test_the_inception_reads_its_file_strictly(inception, tmp_path):
    path = tmp_path / INCEPTION.name
    torch.save(inception.state_dict(), path)
    with pytest.raises(WeightsError, match="6726825d"):
        load_inception(path)
    read = load_inception(path, allow_unknown=True)
    pixels = torch.randint(0, 256, (2, 3, 80, 96)).float()
    with torch.inference_mode():
        features = read(pixels)
        torch.testing.assert_close(features, inception(pixels))
        assert features.shape == (2, 2048)
        assert features.std(0).mean() > 0.0
        torch.testing.assert_close(read.logits(features) + read.fc.bias, read.fc(features))
    torch.save({**inception.state_dict(), "extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="extra"):
        load_inception(path, allow_unknown=True)


def test_the_inception_is_that_of_torch_fidelity(inception, tmp_path):
    peer_module = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity, a peer, is not installed"
    )
    torch.save(inception.state_dict(), tmp_path / "weights.pth")
    peer = peer_module.FeatureExtractorInceptionV3(
        "peer", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    pixels = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8)
    with torch.inference_mode():
        theirs, logits = peer(pixels)
        ours = inception(((pixels.float() - 128.0) / 128.0 + 1.0) * 127.5)  # it scales by 128, as TensorFlow
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(inception.logits(ours), logits, rtol=1e-4, atol=1e-4)


def test_the_encoders_features_are_of_any_size():
    bundle = ModelBundle.random(TINY)
    network = EncoderFeatures(bundle.movq, "abc")
    assert network.features(torch.full((2, 3, 19, 30), 200.0)).shape == (2, TINY.movq.z_channels)
    assert network.name == "movq encoder abc"
