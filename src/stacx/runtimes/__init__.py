"""Who moves the data: environments to trajectories to updates."""
