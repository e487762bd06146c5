"""TextWorldExpress (textworld-express on PyPI, Apache-2.0): eight procedural text games behind `Environment`."""
