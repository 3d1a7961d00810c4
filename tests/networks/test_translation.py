import pytest
import torch

from monai_transfer.networks import PatchProjection, TranslationGenerator


@pytest.mark.parametrize("shape", [(1, 13, 18), (1, 9, 10, 15)])
def test_any_size_keeps_its_shape(shape):
    network = TranslationGenerator(len(shape) - 1, width=4, blocks=1)
    assert network(torch.randn(2, *shape)).shape == (2, *shape)


def test_features_have_the_stated_widths_and_project_at_places():
    network = TranslationGenerator(2, width=4, blocks=2)
    features = network.encode(torch.randn(1, 1, 16, 16))
    assert tuple(f.shape[1] for f in features) == network.feature_widths == (4, 8, 16, 16)
    projection = PatchProjection(network.feature_widths, width=5)
    places = [torch.tensor([0, 3, 7])] * 4
    vectors = projection(features, places)
    assert [tuple(v.shape) for v in vectors] == [(1, 3, 5)] * 4
    torch.testing.assert_close(vectors[0][0, 1], projection.levels[0](features[0][0, :, 0, 3]))
