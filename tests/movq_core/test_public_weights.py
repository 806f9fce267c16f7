"""Public weights, against the models that diffusers itself builds: same codes, same pixels, nothing lost."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from movq_core.config import MOVQ_PRESETS
from movq_core.errors import BundleError
from movq_core.layouts import DIFFUSERS, FLAT, infer_config, to_theirs
from movq_core.models.movq import MoVQ
from movq_core.public_weights import import_tokenizer, read_public_weights, write_diffusers

PUBLIC = {
    "67m": (128, 2, 431, 67_832_495),
    "102m": (128, 4, 671, 101_614_255),
    "270m": (256, 2, 431, 270_669_103),
}


def peer(width=32, blocks=1, norm_type="spatial", **changes):
    """diffusers' VQModel in Kandinsky's shape, random weights that leave no term at zero."""
    torch.manual_seed(0)
    options = {
        "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (width, 2 * width, 2 * width, 4 * width),
        "layers_per_block": blocks,
        "latent_channels": 4,
        "vq_embed_dim": 4,
        "num_vq_embeddings": 16384,
        "norm_type": norm_type,
    }
    model = diffusers.VQModel(**{**options, **changes}).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.quantize.embedding.weight.normal_()
    return model


@torch.inference_mode()
def assert_equal_models(ours, theirs, sizes=((1, 64, 64), (3, 32, 48))):
    """Codes equal, pixels within 1e-4, for batches and shapes that are no squares."""
    for batch, height, width in sizes:
        pixels = torch.rand(batch, 3, height, width) * 2 - 1
        latents = theirs.encode(pixels).latents
        expected = theirs.quantize(latents)[2][2].view(batch, 1, height // 8, width // 8)
        codes = ours.encode_codes(pixels)
        assert torch.equal(codes, expected)
        assert len(codes.unique()) > 1, "one code for everything would prove nothing"
        assert torch.allclose(ours.decode_codes(codes), theirs.decode(latents).sample.clamp(-1, 1), atol=1e-4)


@pytest.fixture(scope="module")
def model():
    return peer()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def flat(model, folder):
    """The model as layout A, made by our own table from the import of layout B."""
    public = read_public_weights(folder)
    return to_theirs(public.tensors, FLAT, public.config)


def test_diffusers_folder_and_file(model, folder):
    assert_equal_models(import_tokenizer(folder), model)
    assert_equal_models(import_tokenizer(folder / "diffusion_pytorch_model.safetensors"), model)


@pytest.mark.parametrize("norm_type", ["spatial", "group"])
def test_every_part_of_the_shape_is_found(tmp_path, norm_type):
    groups = 32 if norm_type == "spatial" else 16
    options = {"norm_num_groups": groups, "mid_block_add_attention": norm_type == "group"}
    model = peer(blocks=2, norm_type=norm_type, **options)
    model.save_pretrained(tmp_path)
    ours = import_tokenizer(tmp_path)
    assert ours.config.decoder_norm == norm_type
    assert ours.config.norm_groups == groups
    assert (ours.config.encoder_blocks, ours.config.decoder_blocks) == (2, 3)
    assert_equal_models(ours, model)


def test_spatial_norms_of_other_groups_are_refused(tmp_path):
    """diffusers' SpatialNorm has 32 groups whatever norm_num_groups says; ours would have what it says."""
    peer(norm_num_groups=16).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="32 groups, not 16"):
        import_tokenizer(tmp_path)


def test_diffusers_old_names_in_a_pickle(model, tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        ending = next((new for new in old if module.endswith(f".{new}")), None)
        old_name = f"{module.removesuffix(ending)}{old[ending]}.{kind}" if ending else name
        state[old_name] = tensor
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    assert_equal_models(import_tokenizer(tmp_path), model)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("linear", [False, True], ids=["A", "C"])
def test_flat_layouts(model, folder, tmp_path, linear, wrapped):
    state = flat(model, folder)
    if linear:
        state = {k: v[:, :, 0, 0] if ".attn" in k and v.dim() == 4 else v for k, v in state.items()}
    state["loss.discriminator.main.0.weight"] = torch.zeros(3)
    path = tmp_path / "movqgan.ckpt"
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    assert read_public_weights(path).ignored == ("loss.discriminator.main.0.weight",)
    assert_equal_models(import_tokenizer(path), model)


def test_the_flat_names_are_the_documented_ones(model, folder):
    """Written by hand after ai-forever/MoVQGAN: a table that agreed only with itself would prove nothing."""
    names = flat(model, folder)
    wanted = {
        "encoder.conv_in.weight", "encoder.down.0.block.0.norm1.weight", "encoder.down.3.attn.0.norm.bias",
        "encoder.down.3.attn.0.q.weight", "encoder.down.3.attn.0.proj_out.bias",
        "encoder.down.2.downsample.conv.weight", "encoder.down.1.block.0.nin_shortcut.weight",
        "encoder.mid.block_1.conv1.weight", "encoder.mid.attn_1.k.weight", "encoder.mid.block_2.norm2.bias",
        "encoder.norm_out.weight", "encoder.conv_out.bias", "quant_conv.weight",
        "quantize.embedding.weight", "post_quant_conv.bias", "decoder.conv_in.weight",
        "decoder.mid.block_1.norm1.norm_layer.weight", "decoder.mid.block_1.norm1.conv_y.weight",
        "decoder.mid.attn_1.norm.conv_b.bias", "decoder.mid.attn_1.v.weight",
        "decoder.up.3.attn.1.norm.conv_y.weight", "decoder.up.3.attn.1.proj_out.weight",
        "decoder.up.0.block.1.conv2.weight", "decoder.up.3.upsample.conv.weight",
        "decoder.up.0.block.0.nin_shortcut.weight", "decoder.norm_out.norm_layer.weight",
        "decoder.norm_out.conv_b.weight", "decoder.conv_out.weight",
    }  # fmt: skip
    assert wanted <= set(names)
    assert "decoder.up.0.upsample.conv.weight" not in names, "the finest level is 0, and has no upsampling"
    assert not any(name.startswith("encoder.down.3.downsample") for name in names)


@pytest.mark.parametrize("prefix", ["ema_", "model_ema."])
def test_averaged_weights_on_request(model, folder, tmp_path, prefix):
    state = flat(model, folder)
    noisy = {name: tensor + 1.0 for name, tensor in state.items()}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        shadow = f"{part}.{rest.replace('.', '')}" if prefix == "ema_" else name.replace(".", "")
        noisy[prefix + shadow] = tensor
    noisy[f"{prefix}encoder.decay"] = torch.tensor(0.999)
    path = tmp_path / "movqgan.ckpt"
    torch.save(noisy, path)
    assert_equal_models(import_tokenizer(path, prefer_ema=True), model)
    plain = import_tokenizer(path)
    assert torch.equal(plain.quantizer.codebook, state["quantize.embedding.weight"] + 1.0)
    del noisy[f"{prefix}encoder.conv_inweight" if prefix == "ema_" else f"{prefix}encoderconv_inweight"]
    torch.save(noisy, path)
    with pytest.raises(BundleError, match=r"encoder\.conv_in\.weight"):
        import_tokenizer(path, prefer_ema=True)


def test_export_opens_in_diffusers_and_comes_back(model, folder, tmp_path):
    ours = import_tokenizer(folder)
    write_diffusers(ours, tmp_path / "out")
    again = diffusers.VQModel.from_pretrained(tmp_path / "out").eval()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    back = import_tokenizer(tmp_path / "out")
    assert back.config == ours.config
    for name, tensor in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_a_norm_without_affine_is_exported_with_one_that_changes_nothing(folder, tmp_path):
    torch.manual_seed(0)
    config = import_tokenizer(folder).config.model_copy(update={"norm_affine": False})
    ours = MoVQ(config).eval()
    torch.nn.init.normal_(ours.quantizer.codebook)
    write_diffusers(ours, tmp_path / "out")
    assert_equal_models(ours, diffusers.VQModel.from_pretrained(tmp_path / "out").eval())


def test_what_diffusers_cannot_hold_is_refused(folder, tmp_path):
    config = import_tokenizer(folder).config.model_copy(update={"code_channels": 2, "code_dim": 2})
    with pytest.raises(BundleError, match="one code channel"):
        write_diffusers(MoVQ(config), tmp_path / "out")


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_tensor_that_does_not_fit_is_named(folder, fault):
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    name = "decoder.mid_block.resnets.0.norm1.conv_y.weight"
    if fault == "missing":
        del state[name]
    if fault == "extra":
        name = "decoder.mid_block.resnets.7.conv1.weight"
        state[name] = torch.zeros(1)
    if fault == "shape":
        state[name] = state[name][:-1].clone()
    save_file(state, path)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        import_tokenizer(folder)


class Bomb:
    def __reduce__(self):
        return (print, ("this pickle ran code",))


@pytest.mark.parametrize("content", ["code", "numbers", "text", "other model"])
def test_what_is_no_state_dict_is_refused(tmp_path, capsys, content):
    path = tmp_path / "weights.ckpt"
    if content == "text":
        path.write_text("not weights")
    else:
        what = {"code": {"x": Bomb()}, "numbers": {"x": 3}, "other model": {"fc.weight": torch.zeros(2)}}
        torch.save(what[content], path)
    with pytest.raises(BundleError, match=r"weights\.ckpt"):
        import_tokenizer(path)
    assert "ran code" not in capsys.readouterr().out


def test_nothing_there(tmp_path):
    with pytest.raises(BundleError, match="missing"):
        import_tokenizer(tmp_path / "none.ckpt")
    with pytest.raises(BundleError, match="diffusion_pytorch_model"):
        import_tokenizer(tmp_path)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_sizes(name):
    """Names and shapes; `python -m benchmarks.import_public` compares codes and pixels at full size."""
    width, blocks, count, parameters = PUBLIC[name]
    ours = MOVQ_PRESETS[f"movqgan-{name}"]
    with torch.device("meta"):
        written = to_theirs(dict(MoVQ(ours).state_dict()), DIFFUSERS, ours)
        theirs = peer(width, blocks).state_dict()
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in theirs.items()}
    assert (len(theirs), sum(t.numel() for t in theirs.values())) == (count, parameters)
    assert infer_config(dict(theirs), DIFFUSERS) == ours
