from monai_transfer.adaptation import SourceOnly

from .contract import MethodContract


class TestSourceOnly(MethodContract):
    has_gradient = False

    def make(self, spatial_dims, network):
        return SourceOnly()

    def test_needs_nothing(self):
        assert not SourceOnly().needs_target
        assert not SourceOnly().needs_features
