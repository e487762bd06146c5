"""What every station runs on: boundaries, pipes, seeds, the clock, telemetry, configuration."""
