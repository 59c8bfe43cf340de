"""Training of networks: device, weights, losses, and the one loop that both networks use."""
