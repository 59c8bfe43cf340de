"""Device, weights, losses, and the one training loop."""
