"""ALFWorld (alfworld on PyPI, MIT): household tasks in text on the official engine and games, behind `Environment`."""
