"""`python -m dreamsim VERB`: the same as `dreamsim VERB`."""

from dreamsim.cli.main import script

if __name__ == "__main__":
    script()
