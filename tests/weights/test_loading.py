import json

import pytest
import torch
from monai.networks.nets import BasicUNet, DenseNet121, DynUNet, FlexibleUNet, UNet
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.weights import load_pretrained
from tests.weights.published import published_tensors


def unet(classes: int, *, in_channels: int = 1, spatial_dims: int = 3, residual: int = 0, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(spatial_dims, in_channels, classes, (4, 8, 16), (2, 2), num_res_units=residual, norm="batch")


def write_bundle(folder, network, names):
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    definition = {str(index): name for index, name in names.items()}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": definition}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "network.", "net.", "module.model.", "backbone.encoder.", "_orig_mod."]
)
def test_prefixes_are_found(prefix, tmp_path):
    """An encoder's file under any trainer's prefix fits the encoder of a U-Net."""
    source = FlexibleUNet(1, 2, "resnet10", spatial_dims=2, decoder_channels=(8, 8, 8, 8, 8))
    torch.save({prefix + name: value for name, value in source.encoder.state_dict().items()}, tmp_path / "file.pt")
    network = FlexibleUNet(1, 3, "resnet10", spatial_dims=2, decoder_channels=(8, 8, 8, 8, 8))
    report = load_pretrained(network, tmp_path / "file.pt", minimum=1.0)
    assert report.skipped == ()
    assert torch.equal(network.encoder.layer3[0].conv2.weight, source.encoder.layer3[0].conv2.weight)


def test_whole_unet_round_trip(tmp_path):
    torch.save({"state_dict": {f"net.{k}": v for k, v in unet(3).state_dict().items()}}, tmp_path / "file.ckpt")
    network = unet(3, seed=1)
    report = load_pretrained(network, tmp_path / "file.ckpt", minimum=1.0)
    assert report.share(report.levels) == 1.0
    image = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(network.eval()(image), unet(3).eval()(image))


@pytest.mark.parametrize("residual", [0, 1, 2])
def test_head_rows_are_copied_by_name(residual, tmp_path):
    """The new network's shared classes give the old one's logits; the added class starts fresh."""
    old, new = unet(3, residual=residual), unet(4, residual=residual, seed=1)
    bundle = write_bundle(tmp_path / "bundle", old, {0: "background", 1: "liver", 2: "spleen"})
    names = {0: "background", 1: "spleen", 2: "aorta", 3: "liver"}
    report = load_pretrained(new, bundle, label_names=names)
    adapted = [record for record in report.adapted if record.level == "head"]
    assert all("rows of background, spleen, liver" in record.detail for record in adapted)
    image = torch.randn(1, 1, 16, 16, 16)
    if residual == 0:
        before, after = old.eval()(image), new.eval()(image)
        assert torch.allclose(after[:, [0, 1, 3]], before[:, [0, 2, 1]], atol=1e-6)
    kernel, fresh = new.state_dict(), unet(4, residual=residual, seed=1).state_dict()
    first = next(record.name for record in adapted if record.name.endswith("conv.weight"))
    assert torch.equal(kernel[first][:, 2], fresh[first][:, 2])


def test_equal_names_in_another_order_are_permuted(tmp_path):
    old, new = unet(3), unet(3, seed=1)
    bundle = write_bundle(tmp_path / "bundle", old, {0: "background", 1: "liver", 2: "spleen"})
    load_pretrained(new, bundle, label_names={0: "background", 1: "spleen", 2: "liver"})
    image = torch.randn(1, 1, 16, 16, 16)
    assert torch.allclose(new.eval()(image)[:, [0, 2, 1]], old.eval()(image), atol=1e-6)


def test_other_classes_without_names_keep_the_fresh_head(tmp_path):
    torch.save(unet(3).state_dict(), tmp_path / "file.pt")
    network = unet(5, seed=1)
    report = load_pretrained(network, tmp_path / "file.pt")
    assert {record.detail for record in report.skipped} == {"another number of classes, and not both sides name theirs"}
    assert torch.equal(network.state_dict()["model.2.conv.weight"], unet(5, seed=1).state_dict()["model.2.conv.weight"])


def test_more_input_channels_in_a_unet(tmp_path):
    torch.save(unet(3).state_dict(), tmp_path / "file.pt")
    network = unet(3, in_channels=2, seed=1)
    load_pretrained(network, tmp_path / "file.pt", minimum=1.0)
    image = torch.randn(1, 1, 16, 16, 16)
    assert torch.allclose(network.eval()(image.expand(-1, 2, -1, -1, -1)), unet(3).eval()(image), atol=1e-5)


def test_torchvision_densenet_fits_monai_densenet(tmp_path):
    torch.save(published_tensors("torchvision_densenet121"), tmp_path / "file.pth")
    network = DenseNet121(spatial_dims=2, in_channels=3, out_channels=2)
    report = load_pretrained(network, tmp_path / "file.pth", minimum=0.98)
    assert {record.name for record in report.missing} == {"class_layers.out.weight", "class_layers.out.bias"}


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = unet(3).state_dict()
    state["model.0.conv.weight"][0] = torch.nan
    torch.save(state, tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"not finite \(in model.0.conv.weight\)"):
        load_pretrained(unet(3), tmp_path / "file.pt")


def test_half_precision_is_cast(tmp_path):
    torch.save({name: value.half() for name, value in unet(3).state_dict().items()}, tmp_path / "file.pt")
    network = unet(3, seed=1)
    load_pretrained(network, tmp_path / "file.pt", minimum=1.0)
    assert network.state_dict()["model.0.conv.weight"].dtype == torch.float32


def test_data_parallel_wrapper(tmp_path):
    torch.save(unet(3).state_dict(), tmp_path / "file.pt")
    assert load_pretrained(nn.DataParallel(unet(3, seed=1)), tmp_path / "file.pt", minimum=1.0).encoder_share == 1.0


def test_network_without_known_levels(tmp_path):
    torch.save(BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4)).state_dict(), tmp_path / "file.pt")
    report = load_pretrained(BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4)), tmp_path / "file.pt", minimum=1.0)
    assert report.levels == ("network",)


def test_dry_run_changes_nothing(tmp_path):
    torch.save(unet(3).state_dict(), tmp_path / "file.pt")
    network = unet(3, seed=1)
    load_pretrained(network, tmp_path / "file.pt", dry_run=True)
    assert torch.equal(network.state_dict()["model.0.conv.weight"], unet(3, seed=1).state_dict()["model.0.conv.weight"])


def test_report_is_json_and_a_table(tmp_path):
    torch.save(unet(3).state_dict(), tmp_path / "file.pt")
    report = load_pretrained(unet(5, seed=1), tmp_path / "file.pt")
    content = json.loads(json.dumps(report.as_dict()))
    assert content["counts"] == {"matched": len(report.matched), "adapted": 0, "skipped": 2, "missing": 0}
    assert content["encoder_share"] == 1.0
    assert len(content["sha256"]) == 64
    assert report.table().row_count == len(report.levels) + 1
    assert "skipped, another number of classes" in report.remarks()[0]


class PlainBlock(nn.Module):
    """nnU-Net's convolution block, under its names."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, channels, 3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm3d(channels, affine=True)
        self.nonlin = nn.LeakyReLU(0.01)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x):
        return self.all_modules(x)


class PlainNnUnet(nn.Module):
    """A minimal nnU-Net v2 with its registration: the decoder holds the encoder a second time."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 4, 8, 16]

        def stage(index: int, in_channels: int, stride: int) -> nn.Module:
            blocks = nn.Module()
            width = widths[index]
            blocks.convs = nn.Sequential(PlainBlock(in_channels, width, stride), PlainBlock(width, width, 1))
            return blocks

        self.encoder, self.decoder = nn.Module(), nn.Module()
        stages = [nn.Sequential(stage(index, widths[index - 1], 1 if index == 1 else 2)) for index in (1, 2, 3)]
        self.encoder.stages = nn.Sequential(*stages)
        self.decoder.encoder = self.encoder
        self.decoder.transpconvs = nn.ModuleList([nn.ConvTranspose3d(16, 8, 2, 2), nn.ConvTranspose3d(8, 4, 2, 2)])
        self.decoder.stages = nn.ModuleList([stage(2, 16, 1), stage(1, 8, 1)])
        self.decoder.seg_layers = nn.ModuleList([nn.Conv3d(8, 3, 1), nn.Conv3d(4, 3, 1)])

    def forward(self, x):
        skips = []
        for stage in self.encoder.stages:
            x = stage[0].convs(x)
            skips.append(x)
        for index, up in enumerate(self.decoder.transpconvs):
            x = torch.cat([up(x), skips[-2 - index]], dim=1)
            x = self.decoder.stages[index].convs(x)
        return self.decoder.seg_layers[-1](x)


def test_nnunet_file_computes_the_same_in_dynunet(tmp_path):
    torch.manual_seed(0)
    source = PlainNnUnet().eval()
    torch.save({"network_weights": source.state_dict(), "trainer_name": "nnUNetTrainer"}, tmp_path / "final.pth")
    network = DynUNet(
        3,
        1,
        3,
        [3, 3, 3],
        [1, 2, 2],
        [2, 2],
        filters=[4, 8, 16],
        norm_name=("instance", {"affine": True}),
        trans_bias=True,
    ).eval()
    report = load_pretrained(network, tmp_path / "final.pth", minimum=1.0)
    assert "nnU-Net (version 2" in report.layout
    assert report.share(report.levels) == 1.0
    image = torch.randn(1, 1, 16, 16, 16)
    assert torch.allclose(network(image), source(image), atol=1e-5)


def test_nnunet_version_1_names(tmp_path):
    """The names of version 1, written from version 2's, carry the same tensors to the same places."""
    state = PlainNnUnet().state_dict()
    old = {}
    for name, value in state.items():
        if "all_modules" in name or name.startswith("decoder.encoder"):
            continue
        words = name.replace(".norm.", ".instnorm.").split(".")
        if words[0] == "encoder":
            stage, block, rest = words[2], words[5], ".".join(words[6:])
            bottom = stage == "2"
            place = f"{stage}.{block}.blocks.0" if bottom else f"{stage}.blocks.{block}"
            old[f"conv_blocks_context.{place}.{rest}"] = value
        elif words[1] == "stages":
            old[f"conv_blocks_localization.{words[2]}.{words[4]}.blocks.0.{'.'.join(words[5:])}"] = value
        elif words[1] == "transpconvs":
            old[f"tu.{words[2]}.{words[3]}"] = value
        else:
            old[f"seg_outputs.{words[2]}.{words[3]}"] = value
    torch.save({"state_dict": old}, tmp_path / "model_final.model")
    network = DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16], trans_bias=True)
    report = load_pretrained(network, tmp_path / "model_final.model", minimum=1.0)
    assert "version 1" in report.layout
    assert torch.equal(network.bottleneck.conv2.conv.weight, state["encoder.stages.2.0.convs.1.conv.weight"])
    assert torch.equal(network.output_block.conv.conv.bias, state["decoder.seg_layers.1.bias"])
