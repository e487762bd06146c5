"""The `dreamsim` command, one file per verb."""
