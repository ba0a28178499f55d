"""The fake keeps the contract of the real one."""

from __future__ import annotations

import pytest

from harness.testing import DeployerContract, FakeDeployer


@pytest.mark.chaos
class TestFakeDeployer(DeployerContract):
    @pytest.fixture
    def deployer(self) -> FakeDeployer:
        return FakeDeployer()
