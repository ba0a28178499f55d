"""The deployer that stands on Ray."""
