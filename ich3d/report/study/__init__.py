"""The page of one scored study: its slices, their probabilities, and explanations."""
